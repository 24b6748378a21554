//! Structured fields (RFC 9651) as far as signatures have them, and in the one way in which they are written: what a reader
//! would have to bring into another form before it could be signed again is refused, and so is a name that comes twice.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Members of a dictionary.
const MAX_MEMBERS: usize = 8;
/// Items of an inner list.
const MAX_ITEMS: usize = 32;
/// Parameters of a member or an item.
const MAX_PARAMETERS: usize = 16;
/// Digits of a number.
const MAX_DIGITS: usize = 15;

/// A member of a dictionary.
#[derive(Debug, PartialEq)]
pub(super) struct Member<'a> {
    pub(super) label: &'a str,
    pub(super) value: Value<'a>,
    pub(super) parameters: Parameters<'a>,
    /// The value with its parameters, as they stand there.
    pub(super) raw: &'a str,
}

type Parameters<'a> = Vec<(&'a str, Bare<'a>)>;

/// What a member is.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    List(Vec<Item<'a>>),
    Item(Bare<'a>),
}

/// One of an inner list.
#[derive(Debug, PartialEq)]
pub(super) struct Item<'a> {
    pub(super) bare: Bare<'a>,
    pub(super) parameters: Parameters<'a>,
}

/// The simplest values. A text is as it is written between its quotes.
#[derive(Debug, PartialEq)]
pub(super) enum Bare<'a> {
    Integer(i64),
    Text(&'a str),
    Token,
    Bytes(Vec<u8>),
    Boolean,
}

impl<'a> Member<'a> {
    pub(super) fn parameter(&self, name: &str) -> Option<&Bare<'a>> {
        self.parameters.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }
}

type Reason = &'static str;

/// Reads a dictionary that has at least one member.
pub(super) fn dictionary(text: &str) -> Result<Vec<Member<'_>>, Reason> {
    let mut reader = Reader { text, at: 0 };
    let mut members: Vec<Member<'_>> = Vec::new();
    loop {
        let member = reader.member()?;
        if members.iter().any(|known| known.label == member.label) {
            return Err("a field of its signature has a label twice");
        }
        if members.len() == MAX_MEMBERS {
            return Err("it has more signatures or digests than are read");
        }
        members.push(member);
        reader.space();
        if reader.is_at_end() {
            return Ok(members);
        }
        reader.expect(b',')?;
        reader.space();
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

const MALFORMED: Reason = "a field of its signature is malformed";

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    fn space(&mut self) {
        self.take_while(|byte| byte == b' ' || byte == b'\t');
    }

    fn skip(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8) -> Result<(), Reason> {
        if self.skip(byte) { Ok(()) } else { Err(MALFORMED) }
    }

    /// Only ASCII is ever taken, so the text is never cut inside a character.
    fn take_while(&mut self, takes: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii() && takes(byte)) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn member(&mut self) -> Result<Member<'a>, Reason> {
        let label = self.key()?;
        self.expect(b'=')?;
        let start = self.at;
        let value =
            if self.peek() == Some(b'(') { Value::List(self.list()?) } else { Value::Item(self.bare()?) };
        let parameters = self.parameters()?;
        Ok(Member { label, value, parameters, raw: &self.text[start..self.at] })
    }

    fn list(&mut self) -> Result<Vec<Item<'a>>, Reason> {
        self.expect(b'(')?;
        let mut items = Vec::new();
        while !self.skip(b')') {
            if !items.is_empty() {
                self.expect(b' ')?;
            }
            if items.len() == MAX_ITEMS {
                return Err("its signature covers more components than are read");
            }
            let bare = self.bare()?;
            items.push(Item { bare, parameters: self.parameters()? });
        }
        Ok(items)
    }

    fn parameters(&mut self) -> Result<Parameters<'a>, Reason> {
        let mut parameters: Parameters<'a> = Vec::new();
        while self.skip(b';') {
            let name = self.key()?;
            // That something is true is said by its name alone.
            let value = if self.skip(b'=') {
                if self.text[self.at..].starts_with("?1") {
                    return Err(MALFORMED);
                }
                self.bare()?
            } else {
                Bare::Boolean
            };
            if parameters.len() == MAX_PARAMETERS || parameters.iter().any(|(known, _)| *known == name) {
                return Err("a field of its signature has a parameter twice, or too many of them");
            }
            parameters.push((name, value));
        }
        Ok(parameters)
    }

    fn key(&mut self) -> Result<&'a str, Reason> {
        let begins = |byte: u8| byte.is_ascii_lowercase() || byte == b'*';
        if !self.peek().is_some_and(begins) {
            return Err(MALFORMED);
        }
        Ok(self.take_while(|byte| begins(byte) || byte.is_ascii_digit() || b"_-.".contains(&byte)))
    }

    fn bare(&mut self) -> Result<Bare<'a>, Reason> {
        match self.peek().ok_or(MALFORMED)? {
            b'"' => self.text(),
            b':' => self.bytes(),
            b'-' | b'0'..=b'9' => self.integer(),
            b'?' => {
                self.at += 1;
                if self.skip(b'0') || self.skip(b'1') { Ok(Bare::Boolean) } else { Err(MALFORMED) }
            }
            byte if byte.is_ascii_alphabetic() || byte == b'*' => {
                self.take_while(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte));
                Ok(Bare::Token)
            }
            _ => Err(MALFORMED),
        }
    }

    fn text(&mut self) -> Result<Bare<'a>, Reason> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            self.take_while(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\');
            if self.skip(b'\\') {
                if !self.skip(b'"') && !self.skip(b'\\') {
                    return Err(MALFORMED);
                }
                continue;
            }
            let text = &self.text[start..self.at];
            self.expect(b'"')?;
            return Ok(Bare::Text(text));
        }
    }

    fn bytes(&mut self) -> Result<Bare<'a>, Reason> {
        self.expect(b':')?;
        let text = self.take_while(|byte| byte != b':');
        self.expect(b':')?;
        STANDARD.decode(text).map(Bare::Bytes).map_err(|_| MALFORMED)
    }

    fn integer(&mut self) -> Result<Bare<'a>, Reason> {
        let start = self.at;
        let is_negative = self.skip(b'-');
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        let is_plain =
            digits.len() <= MAX_DIGITS && (!digits.starts_with('0') || (digits == "0" && !is_negative));
        // A decimal would go on with a point.
        if !is_plain || self.peek() == Some(b'.') {
            return Err(MALFORMED);
        }
        self.text[start..self.at].parse().map(Bare::Integer).map_err(|_| MALFORMED)
    }
}

#[cfg(test)]
mod tests;
