//! JSON that can be read in one way only (RFC 8259): what two readers could take for two things is refused, and nothing of it is
//! guessed or mended.
//!
//! A reader of its own: serde's way through a visitor cannot tell a number that keeps its digits from an object with one
//! particular member. Pure: bytes in, a value out. It says nothing of what the value must be.

use serde_json::{Map, Number, Value};
use thiserror::Error;

/// The digits of a number before and behind its point.
pub const MAX_NUMBER_DIGITS: usize = 64;
/// The digits of an exponent.
pub const MAX_EXPONENT_DIGITS: usize = 3;

/// The values in one, those within arrays and objects among them: each takes some 50 bytes and more of memory, however short it is
/// written.
pub const MAX_VALUES: usize = 256 << 10;

/// Why bytes are not the JSON that is taken, and where that shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{why} (at byte {offset})")]
pub struct NotJson {
    /// From the beginning, which is byte 0.
    pub offset: usize,
    /// What is wrong there.
    pub why: Why,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Why {
    /// There is none.
    #[error("there is nothing where JSON is expected")]
    Empty,
    /// It ends too early.
    #[error("the JSON ends too early")]
    CutOff,
    /// A byte order mark (RFC 8259 section 8.1).
    #[error("the JSON begins with a byte order mark")]
    ByteOrderMark,
    /// Something that has no place there.
    #[error("the JSON has something that has no place there")]
    Unexpected,
    /// More than one value.
    #[error("something stands behind the JSON")]
    Behind,
    /// Not UTF-8.
    #[error("the JSON is not UTF-8")]
    NotUtf8,
    /// A control character that is not escaped.
    #[error("a string has a control character that is not escaped")]
    Control,
    /// An escape that there is not, or half of a surrogate pair.
    #[error("a string has an escape that means nothing")]
    Escape,
    /// A number that is none.
    #[error("a number is not written as JSON has them")]
    Number,
    /// Two members of one name.
    #[error("an object has two members of the same name")]
    Duplicate,
    /// Over the depth that may be.
    #[error("arrays and objects are nested deeper than {0}")]
    TooDeep(usize),
    /// Over [`MAX_VALUES`].
    #[error("it has more than {MAX_VALUES} values")]
    TooMany,
    /// Over [`MAX_NUMBER_DIGITS`].
    #[error("a number has more than {MAX_NUMBER_DIGITS} digits")]
    NumberTooLong,
    /// Over [`MAX_EXPONENT_DIGITS`].
    #[error("a number has an exponent of more than {MAX_EXPONENT_DIGITS} digits")]
    ExponentTooLong,
}

/// Reads one JSON value, in which arrays and objects are nested no deeper than this.
///
/// # Errors
/// The first thing that is wrong, and where.
pub fn read(bytes: &[u8], max_depth: usize) -> Result<Value, NotJson> {
    let mut reader = Reader { bytes, max_depth, at: 0, values: 0 };
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(reader.wrong(Why::ByteOrderMark));
    }
    reader.skip_space();
    if reader.peek().is_none() {
        return Err(reader.wrong(Why::Empty));
    }
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.peek().is_some() { Err(reader.wrong(Why::Behind)) } else { Ok(value) }
}

struct Reader<'a> {
    bytes: &'a [u8],
    max_depth: usize,
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, why: Why) -> NotJson {
        NotJson { offset: self.at, why }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// What is wrong where something else should stand.
    fn unexpected(&self) -> NotJson {
        self.wrong(if self.peek().is_none() { Why::CutOff } else { Why::Unexpected })
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes this byte if it is the next.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, NotJson> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.wrong(Why::TooMany));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.unexpected()),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, NotJson> {
        for byte in word.bytes() {
            if !self.take(byte) {
                return Err(self.unexpected());
            }
        }
        Ok(value)
    }

    /// Opens an array or an object.
    fn open(&mut self, depth: usize) -> Result<(), NotJson> {
        if depth == self.max_depth {
            return Err(self.wrong(Why::TooDeep(self.max_depth)));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<Value, NotJson> {
        self.open(depth)?;
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            if !self.take(b',') {
                return Err(self.unexpected());
            }
            self.skip_space();
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, NotJson> {
        self.open(depth)?;
        let mut members = Map::new();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            let begins = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.unexpected());
            }
            let name = self.string()?;
            self.skip_space();
            if !self.take(b':') {
                return Err(self.unexpected());
            }
            self.skip_space();
            let value = self.value(depth + 1)?;
            if members.insert(name, value).is_some() {
                return Err(NotJson { offset: begins, why: Why::Duplicate });
            }
            self.skip_space();
            if self.take(b'}') {
                return Ok(Value::Object(members));
            }
            if !self.take(b',') {
                return Err(self.unexpected());
            }
            self.skip_space();
        }
    }

    fn string(&mut self) -> Result<String, NotJson> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = &self.bytes[self.at..];
            let stop = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            let plain = &rest[..stop.unwrap_or(rest.len())];
            match std::str::from_utf8(plain) {
                Ok(plain) => text.push_str(plain),
                Err(error) => {
                    self.at += error.valid_up_to();
                    return Err(self.wrong(Why::NotUtf8));
                }
            }
            self.at += plain.len();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return Err(self.wrong(Why::Control)),
                None => return Err(self.wrong(Why::CutOff)),
            }
        }
    }

    fn escape(&mut self) -> Result<char, NotJson> {
        let begins = self.at;
        let nothing = NotJson { offset: begins, why: Why::Escape };
        self.at += 1;
        let Some(kind) = self.peek() else { return Err(self.wrong(Why::CutOff)) };
        self.at += 1;
        Ok(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.four_digits(nothing)?;
                match first {
                    0xd800..0xdc00 => {
                        if !(self.take(b'\\') && self.take(b'u')) {
                            return Err(nothing);
                        }
                        let second = self.four_digits(nothing)?;
                        if !(0xdc00..0xe000).contains(&second) {
                            return Err(nothing);
                        }
                        let whole = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                        char::from_u32(whole).ok_or(nothing)?
                    }
                    // The second half of a pair is no character.
                    single => char::from_u32(single).ok_or(nothing)?,
                }
            }
            _ => return Err(nothing),
        })
    }

    fn four_digits(&mut self, nothing: NotJson) -> Result<u32, NotJson> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(nothing)?;
        self.at += 4;
        digits.iter().try_fold(0, |number, digit| {
            char::from(*digit).to_digit(16).map(|digit| number << 4 | digit).ok_or(nothing)
        })
    }

    fn number(&mut self) -> Result<Number, NotJson> {
        let begins = self.at;
        let at_begin = |why| NotJson { offset: begins, why };
        self.take(b'-');
        let whole = self.digits();
        if whole.is_empty() || (whole.len() > 1 && whole[0] == b'0') {
            return Err(at_begin(Why::Number));
        }
        let mut digits = whole.len();
        if self.take(b'.') {
            let fraction = self.digits().len();
            if fraction == 0 {
                return Err(at_begin(Why::Number));
            }
            digits += fraction;
        }
        if digits > MAX_NUMBER_DIGITS {
            return Err(at_begin(Why::NumberTooLong));
        }
        if self.take(b'e') || self.take(b'E') {
            let _signed = self.take(b'+') || self.take(b'-');
            match self.digits().len() {
                0 => return Err(at_begin(Why::Number)),
                1..=MAX_EXPONENT_DIGITS => {}
                _ => return Err(at_begin(Why::ExponentTooLong)),
            }
        }
        let text = std::str::from_utf8(&self.bytes[begins..self.at]).ok();
        text.and_then(|text| text.parse().ok()).ok_or(at_begin(Why::Number))
    }

    fn digits(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        &rest[..count]
    }
}

#[cfg(test)]
mod tests;
