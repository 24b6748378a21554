//! What a case of the corpus is: an input, and what has to become of it.

/// Stands in an input for the word by which a case is known wherever its bytes turn up. As long as the word itself, so that
/// lengths are right before and after.
pub(super) const ID: &str = "{id}";

/// One input of the corpus.
pub(super) struct Case {
    pub(super) class: &'static str,
    pub(super) name: String,
    /// The bytes, with [`ID`] in place of the case's word.
    pub(super) input: Vec<u8>,
    pub(super) ending: Ending,
    pub(super) expected: Expected,
}

/// What follows the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Another request, which wants to be the last of its connection.
    Tail,
    /// The same, after an input that ends the connection itself.
    UnansweredTail,
    /// The client ends its sending: that of the connection, or in HTTP/2 that of the stream.
    Closed,
}

/// What has to become of an input.
pub(super) enum Expected {
    /// A 4xx and the end of the connection; no byte of it reaches the replica.
    Refused,
    /// This status; no byte of it reaches the replica, and what follows is a request of its own.
    Denied(u16),
    /// A body that turns out to be none while it passes: a 4xx and the end of the connection. What reached the replica is at
    /// most an unfinished request, on a connection that ended with it.
    CutOff,
    /// Accepted; the replica gets exactly these requests.
    Neutralised(Vec<Meaning>),
    /// Accepted up to a point: the connection is ended, and the replica gets at most so many requests.
    Flood(usize),
}

/// A request as the replica has to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) host: String,
    /// All fields of the client's, in their order; those that the gateway writes are judged for every request alike.
    pub(super) fields: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, Vec<u8>)>,
}

impl Meaning {
    pub(super) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: "a".to_owned(),
            fields: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
        }
    }

    /// `GET /r/{id}`
    pub(super) fn get() -> Self {
        Self::new("GET", "/r/{id}")
    }

    /// `POST /r/{id}` with a body.
    pub(super) fn post(body: impl AsRef<[u8]>) -> Self {
        Self { body: body.as_ref().to_vec(), ..Self::new("POST", "/r/{id}") }
    }

    pub(super) fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(super) fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    pub(super) fn host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    /// The same with the word of a case.
    pub(super) fn of(&self, id: &str) -> Self {
        let text = |text: &str| text.replace(ID, id);
        let bytes = |bytes: &[u8]| with_id(bytes, id);
        let fields = |fields: &[(String, Vec<u8>)]| {
            fields.iter().map(|(name, value)| (text(name), bytes(value))).collect::<Vec<_>>()
        };
        Self {
            method: text(&self.method),
            target: text(&self.target),
            host: text(&self.host),
            fields: fields(&self.fields),
            body: bytes(&self.body),
            trailers: fields(&self.trailers),
        }
    }
}

/// An input with the word of its case.
pub(super) fn with_id(input: &[u8], id: &str) -> Vec<u8> {
    let mut filled = input.to_vec();
    for place in 0..filled.len().saturating_sub(ID.len() - 1) {
        if filled[place..].starts_with(ID.as_bytes()) {
            filled[place..place + ID.len()].copy_from_slice(id.as_bytes());
        }
    }
    filled
}

/// All cases of one version of HTTP.
#[derive(Default)]
pub(super) struct Corpus {
    pub(super) cases: Vec<Case>,
    class: &'static str,
}

impl Corpus {
    /// The class of the cases that are added from now on.
    pub(super) fn class(&mut self, class: &'static str) {
        self.class = class;
    }

    pub(super) fn add(&mut self, name: &str, input: impl AsRef<[u8]>, ending: Ending, expected: Expected) {
        let (class, input) = (self.class, input.as_ref().to_vec());
        self.cases.push(Case { class, name: name.to_owned(), input, ending, expected });
    }

    pub(super) fn refused(&mut self, name: &str, input: impl AsRef<[u8]>) {
        self.add(name, input, Ending::Tail, Expected::Refused);
    }

    pub(super) fn denied(&mut self, name: &str, status: u16, input: impl AsRef<[u8]>) {
        self.add(name, input, Ending::Tail, Expected::Denied(status));
    }

    pub(super) fn cut_off(&mut self, name: &str, input: impl AsRef<[u8]>) {
        self.add(name, input, Ending::Tail, Expected::CutOff);
    }

    pub(super) fn passes(&mut self, name: &str, input: impl AsRef<[u8]>, meaning: Meaning) {
        self.add(name, input, Ending::Tail, Expected::Neutralised(vec![meaning]));
    }

    /// Accepted, and the last of its connection.
    pub(super) fn passes_last(&mut self, name: &str, input: impl AsRef<[u8]>, meaning: Meaning) {
        self.add(name, input, Ending::UnansweredTail, Expected::Neutralised(vec![meaning]));
    }
}

/// Readable whatever bytes it has.
pub(super) fn shown(bytes: impl AsRef<[u8]>) -> String {
    let shown = bytes.as_ref().escape_ascii().to_string();
    if shown.len() > 60 { format!("{}… ({} bytes)", &shown[..60], bytes.as_ref().len()) } else { shown }
}

/// Pieces of an input in one.
pub(super) fn join(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}
