//! Canonical JSON (RFC 8785, JCS): the one text of a value, so that whoever hashes or signs it has the same bytes.

use serde_json::{Map, Value};
use thiserror::Error;

/// How much of a number an error shows, in bytes.
const MAX_SHOWN_BYTES: usize = 40;
/// Digits before the point, or zeros after it, up to which ECMAScript writes a number without an exponent.
const MAX_DIGITS: i32 = 21;
const MAX_ZEROS: i32 = 5;

/// A value without canonical text: it holds a number beyond what a double holds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the number {0} is too large for canonical JSON; write it as a string")]
pub struct NotCanonical(String);

/// The canonical text: keys in the order of their UTF-16 code units, no white space, numbers as ECMAScript writes a double.
///
/// Every number becomes the double that is nearest to it, as the RFC wants it, so that two integers above 2⁵³ may have one
/// text; whatever needs more digits is a string.
///
/// # Errors
/// A number whose nearest double is infinite.
pub fn canonical(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    let mut text = Vec::new();
    write_value(&mut text, value)?;
    Ok(text)
}

fn write_value(text: &mut Vec<u8>, value: &Value) -> Result<(), NotCanonical> {
    match value {
        Value::Null => text.extend_from_slice(b"null"),
        Value::Bool(true) => text.extend_from_slice(b"true"),
        Value::Bool(false) => text.extend_from_slice(b"false"),
        Value::Number(number) => write_number(text, &number.to_string())?,
        Value::String(string) => write_string(text, string),
        Value::Array(items) => write_array(text, items)?,
        Value::Object(members) => write_object(text, members)?,
    }
    Ok(())
}

fn write_array(text: &mut Vec<u8>, items: &[Value]) -> Result<(), NotCanonical> {
    text.push(b'[');
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        write_value(text, item)?;
    }
    text.push(b']');
    Ok(())
}

fn write_object(text: &mut Vec<u8>, members: &Map<String, Value>) -> Result<(), NotCanonical> {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    text.push(b'{');
    for (place, (key, value)) in members.into_iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        write_string(text, key);
        text.push(b':');
        write_value(text, value)?;
    }
    text.push(b'}');
    Ok(())
}

/// `serde_json` escapes what has to be escaped and nothing else, in the short forms and in lower-case hex, as the RFC does.
fn write_string(text: &mut Vec<u8>, string: &str) {
    serde_json::to_writer(text, string).expect("a string can be written to memory");
}

fn write_number(text: &mut Vec<u8>, number: &str) -> Result<(), NotCanonical> {
    let double = number.parse::<f64>().ok().filter(|double| double.is_finite());
    let double = double.ok_or_else(|| NotCanonical(number.chars().take(MAX_SHOWN_BYTES).collect()))?;
    text.extend_from_slice(ecmascript(double).as_bytes());
    Ok(())
}

/// Number::toString of ECMAScript (ECMA-262 section 6.1.6.1.20), of a finite number.
fn ecmascript(double: f64) -> String {
    if double == 0.0 {
        // Negative zero too.
        return "0".into();
    }
    let sign = if double < 0.0 { "-" } else { "" };
    let (digits, exponent) = shortest_digits(double.abs());
    let (count, point) = (i32::try_from(digits.len()).expect("17 digits at most"), exponent + 1);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or_default());
    if (count..=MAX_DIGITS).contains(&point) {
        return format!("{sign}{digits}{}", zeros(point - count));
    }
    if (1..=MAX_DIGITS).contains(&point) {
        let (whole, fraction) = digits.split_at(usize::try_from(point).expect("it is positive"));
        return format!("{sign}{whole}.{fraction}");
    }
    if (-MAX_ZEROS..=0).contains(&point) {
        return format!("{sign}0.{}{digits}", zeros(-point));
    }
    let (first, rest) = digits.split_at(1);
    let dot = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{dot}{rest}e{exponent:+}")
}

/// The fewest digits that read back, of those the nearest, and of two equally near ones the even; and the decimal exponent of
/// the first digit.
fn shortest_digits(double: f64) -> (String, i32) {
    let shortest = format!("{double:e}");
    let precision = shortest.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count() - 1;
    // Rust's shortest form takes the upper of two equally near ones, its form of a given length the even. At a power of two
    // the nearest digits of that length may read back as another double.
    let even = format!("{double:.precision$e}");
    let chosen = if even.parse() == Ok(double) { even } else { shortest };
    let (digits, exponent) = chosen.split_once('e').expect("the form has an exponent");
    (digits.replace('.', ""), exponent.parse().expect("the exponent is a small integer"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(json: &str) -> String {
        String::from_utf8(canonical(&serde_json::from_str(json).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn the_sample_of_the_rfc_has_the_bytes_of_the_rfc() {
        let sample = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        // Section 3.2.4.
        let expected = "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a5b33333333333333\
                        33332e333333333333332c31652b33302c342e352c302e3030322c31652d32375d2c22737472696e67223a22e282ac24\
                        5c75303030665c6e4127425c225c5c5c5c5c222f227d";
        let hex: String = text(sample).bytes().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn keys_are_in_the_order_of_their_utf_16_code_units() {
        // Section 3.2.3. In UTF-8 the emoji would come last.
        let sample = r#"{"\u20ac":4,"\r":0,"\ufb33":6,"1":1,"\ud83d\ude00":5,"\u0080":2,"\u00f6":3}"#;
        assert_eq!(text(sample), "{\"\\r\":0,\"1\":1,\"\u{80}\":2,\"ö\":3,\"€\":4,\"😀\":5,\"\u{fb33}\":6}");
    }

    #[test]
    fn numbers_are_written_as_in_appendix_b() {
        let samples: [(u64, &str); 24] = [
            (0x0000000000000000, "0"),
            (0x8000000000000000, "0"),
            (0x0000000000000001, "5e-324"),
            (0x8000000000000001, "-5e-324"),
            (0x7fefffffffffffff, "1.7976931348623157e+308"),
            (0xffefffffffffffff, "-1.7976931348623157e+308"),
            (0x4340000000000000, "9007199254740992"),
            (0xc340000000000000, "-9007199254740992"),
            (0x4430000000000000, "295147905179352830000"),
            (0x44b52d02c7e14af5, "9.999999999999997e+22"),
            (0x44b52d02c7e14af6, "1e+23"),
            (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
            (0x444b1ae4d6e2ef4e, "999999999999999700000"),
            (0x444b1ae4d6e2ef4f, "999999999999999900000"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0x41b3de4355555553, "333333333.3333332"),
            (0x41b3de4355555554, "333333333.33333325"),
            (0x41b3de4355555555, "333333333.3333333"),
            (0x41b3de4355555556, "333333333.3333334"),
            (0x41b3de4355555557, "333333333.33333343"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
            (0x43143ff3c1cb0959, "1424953923781206.2"),
        ];
        for (bits, expected) in samples {
            assert_eq!(ecmascript(f64::from_bits(bits)), expected, "{bits:016x}");
        }
    }

    #[test]
    fn at_a_power_of_two_the_digits_read_back_though_others_are_nearer() {
        assert_eq!(ecmascript(f64::from_bits(0x3d30000000000000)), "5.684341886080802e-14");
    }

    #[test]
    fn one_number_has_one_text_however_it_is_written() {
        for (written, expected) in [
            ("-0", "0"),
            ("-0.0", "0"),
            ("1.0", "1"),
            ("10e-1", "1"),
            ("9007199254740991", "9007199254740991"),
            ("-9007199254740991", "-9007199254740991"),
            ("9007199254740993", "9007199254740992"),
            ("18446744073709551615", "18446744073709552000"),
            ("1e-400", "0"),
        ] {
            assert_eq!(text(written), expected, "{written}");
        }
    }

    #[test]
    fn a_number_that_no_double_holds_is_refused_and_the_error_stays_short() {
        for beyond in ["1e400", "-1e400", &"9".repeat(400)] {
            let error = canonical(&serde_json::from_str(beyond).unwrap()).unwrap_err();
            assert!(error.to_string().len() < 120, "{error}");
        }
    }

    #[test]
    fn strings_escape_what_has_to_be_escaped_and_nothing_else() {
        assert_eq!(
            text(r#""\u0000\u0008\u0009\u000a\u000c\u000d\u001f\u007f\u2028\/é""#),
            "\"\\u0000\\b\\t\\n\\f\\r\\u001f\u{7f}\u{2028}/é\""
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_text_reads_back_to_the_value_and_is_its_own_canonical_text(value in any_value()) {
            let text = canonical(&value).unwrap();
            let again: Value = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(&again, &value);
            prop_assert_eq!(canonical(&again).unwrap(), text);
        }

        #[test]
        fn a_double_reads_back_from_its_text(bits in any::<u64>()) {
            let double = f64::from_bits(bits);
            prop_assume!(double.is_finite());
            let text = ecmascript(double);
            prop_assert_eq!(text.parse::<f64>().unwrap(), double);
            prop_assert_eq!(canonical(&serde_json::from_str(&text).unwrap()).unwrap(), text.as_bytes());
        }
    }
}
