use expect_test::expect;
use proptest::prelude::*;

use super::*;

/// The depth of most tests.
const MAX_DEPTH: usize = 64;

fn read_json(bytes: &[u8]) -> Result<Value, NotJson> {
    read(bytes, MAX_DEPTH)
}

fn refused(bytes: &[u8]) -> String {
    read_json(bytes).map_or_else(|error| error.to_string(), |value| format!("read: {value}"))
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_with_the_place() {
    let cases: [&[u8]; 33] = [
        b"",
        b" \n",
        b"\xef\xbb\xbf{}",
        b"{",
        b"[1,",
        b"[1,]",
        b"{\"a\":1,}",
        b"{\"a\" 1}",
        b"{a:1}",
        b"'a'",
        b"nul",
        b"nulL",
        b"{\"a\":1,\"b\":2,\"a\":3}",
        b"{\"a\":1,\"\\u0061\":3}",
        b"1 2",
        b"{}x",
        b"\"a",
        b"\"a\nb\"",
        b"\"a\0b\"",
        b"\"\\x\"",
        b"\"\\ud800\"",
        b"\"\\ud800\\u0041\"",
        b"\"\\udc00\"",
        b"\"\\u12g4\"",
        b"\"\xff\"",
        b"\"\xed\xa0\x80\"",
        b"\"\xc0\xaf\"",
        b"01",
        b"1.",
        b".5",
        b"-",
        b"+1",
        b"NaN",
    ];
    let all: String = cases.map(|case| format!("{} -> {}\n", case.escape_ascii(), refused(case))).concat();
    expect![[r#"
         -> there is nothing where JSON is expected (at byte 0)
         \n -> there is nothing where JSON is expected (at byte 2)
        \xef\xbb\xbf{} -> the JSON begins with a byte order mark (at byte 0)
        { -> the JSON ends too early (at byte 1)
        [1, -> the JSON ends too early (at byte 3)
        [1,] -> the JSON has something that has no place there (at byte 3)
        {\"a\":1,} -> the JSON has something that has no place there (at byte 7)
        {\"a\" 1} -> the JSON has something that has no place there (at byte 5)
        {a:1} -> the JSON has something that has no place there (at byte 1)
        \'a\' -> the JSON has something that has no place there (at byte 0)
        nul -> the JSON ends too early (at byte 3)
        nulL -> the JSON has something that has no place there (at byte 3)
        {\"a\":1,\"b\":2,\"a\":3} -> an object has two members of the same name (at byte 13)
        {\"a\":1,\"\\u0061\":3} -> an object has two members of the same name (at byte 7)
        1 2 -> something stands behind the JSON (at byte 2)
        {}x -> something stands behind the JSON (at byte 2)
        \"a -> the JSON ends too early (at byte 2)
        \"a\nb\" -> a string has a control character that is not escaped (at byte 2)
        \"a\x00b\" -> a string has a control character that is not escaped (at byte 2)
        \"\\x\" -> a string has an escape that means nothing (at byte 1)
        \"\\ud800\" -> a string has an escape that means nothing (at byte 1)
        \"\\ud800\\u0041\" -> a string has an escape that means nothing (at byte 1)
        \"\\udc00\" -> a string has an escape that means nothing (at byte 1)
        \"\\u12g4\" -> a string has an escape that means nothing (at byte 1)
        \"\xff\" -> the JSON is not UTF-8 (at byte 1)
        \"\xed\xa0\x80\" -> the JSON is not UTF-8 (at byte 1)
        \"\xc0\xaf\" -> the JSON is not UTF-8 (at byte 1)
        01 -> a number is not written as JSON has them (at byte 0)
        1. -> a number is not written as JSON has them (at byte 0)
        .5 -> the JSON has something that has no place there (at byte 0)
        - -> a number is not written as JSON has them (at byte 0)
        +1 -> the JSON has something that has no place there (at byte 0)
        NaN -> the JSON has something that has no place there (at byte 0)
    "#]]
    .assert_eq(&all);
}

#[test]
fn every_bound_holds_at_its_edge() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let objects = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    let digits = |count: usize| "7".repeat(count);
    let point = |whole: usize, fraction: usize| format!("-{}.{}", digits(whole), digits(fraction));
    for fits in [
        nested(MAX_DEPTH),
        objects(MAX_DEPTH),
        digits(MAX_NUMBER_DIGITS),
        point(32, 32),
        "1e999".into(),
        "1E-999".into(),
        "1.5e+001".into(),
    ] {
        assert!(read_json(fits.as_bytes()).is_ok(), "{fits}");
    }
    for (over, why) in [
        (nested(MAX_DEPTH + 1), Why::TooDeep(MAX_DEPTH)),
        (objects(MAX_DEPTH + 1), Why::TooDeep(MAX_DEPTH)),
        (nested(1 << 20), Why::TooDeep(MAX_DEPTH)),
        (digits(MAX_NUMBER_DIGITS + 1), Why::NumberTooLong),
        (point(32, 33), Why::NumberTooLong),
        ("1e1000".into(), Why::ExponentTooLong),
        ("1e-0001".into(), Why::ExponentTooLong),
        ("1e".into(), Why::Number),
    ] {
        assert_eq!(read_json(over.as_bytes()).map_err(|error| error.why), Err(why), "{why}");
    }
}

#[test]
fn numbers_keep_their_digits_and_an_object_is_never_taken_for_one() {
    let text =
        r#"{"price":0.10000000000000000555,"$serde_json::private::Number":"1","big":9007199254740993}"#;
    let value = read_json(text.as_bytes()).unwrap();
    assert_eq!(value["price"].to_string(), "0.10000000000000000555");
    assert_eq!(value["big"].to_string(), "9007199254740993");
    let sly = read_json(br#"{"$serde_json::private::Number":"1"}"#).unwrap();
    assert!(sly.is_object(), "{sly}");
    assert_eq!(read_json(br#""\ud83d\ude00\"\\\/\b\f\n\r\t\u00e9""#).unwrap(), "😀\"\\/\u{8}\u{c}\n\r\té");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _whatever = read_json(&bytes).is_ok();
    }

    #[test]
    fn what_looks_like_json_is_read_as_serde_reads_it_or_refused(text in r#"[\[\]{}:, "\\utrefalsn0-9.eE+\-]{0,40}"#) {
        if let Ok(value) = read_json(text.as_bytes()) {
            prop_assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
        }
    }

    #[test]
    fn what_serde_writes_is_read_back(value in any_value()) {
        prop_assert_eq!(read_json(value.to_string().as_bytes()).unwrap(), value.clone());
        prop_assert_eq!(read_json(format!(" {value:#}\r\n").as_bytes()).unwrap(), value);
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
