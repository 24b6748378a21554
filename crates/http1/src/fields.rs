//! Header fields as spans of the bytes they came in.

use crate::known::Known;

/// Where one field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    name: Span,
    value: Span,
    known: Option<Known>,
    /// Whether it belongs to the connection that it came on and not to the message (RFC 9110 section 7.6.1).
    pub hop_by_hop: bool,
}

/// A piece of the bytes; heads are far shorter than 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let place = |place: usize| u32::try_from(place).expect("a head is far shorter than 4 GiB");
        Self { start: place(start), end: place(end) }
    }

    /// Where `part` stands in `whole`, of which it is a slice.
    pub(crate) fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr().addr() - whole.as_ptr().addr();
        debug_assert!(start + part.len() <= whole.len(), "the part is a slice of the whole");
        Self::new(start, start + part.len())
    }

    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(crate) fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

impl Field {
    pub(crate) fn new(name: Span, value: Span, bytes: &[u8]) -> Self {
        let known = Known::of(&bytes[name.range()]);
        Self { name, value, known, hop_by_hop: known.is_some_and(Known::is_hop_by_hop) }
    }

    /// Which of the known ones it is.
    pub fn known(&self) -> Option<Known> {
        self.known
    }
}

const NONE: u16 = u16::MAX;

/// The fields of a head in their order, with the place of each known one.
#[derive(Debug, Clone)]
pub struct Fields {
    list: Vec<Field>,
    /// The first of each known name.
    slots: [u16; Known::ALL.len()],
    /// A bit for each known name that stands more than once.
    repeated: u64,
}

// A bit is enough for each of them.
const _: () = assert!(Known::ALL.len() <= 64);

impl Default for Fields {
    fn default() -> Self {
        Self { list: Vec::new(), slots: [NONE; Known::ALL.len()], repeated: 0 }
    }
}

impl Fields {
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.slots = [NONE; Known::ALL.len()];
        self.repeated = 0;
    }

    pub(crate) fn push(&mut self, field: Field) {
        if let Some(known) = field.known {
            let slot = &mut self.slots[known as usize];
            if *slot == NONE {
                *slot = u16::try_from(self.list.len()).unwrap_or(NONE);
            } else {
                self.repeated |= 1 << (known as u8);
            }
        }
        self.list.push(field);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// A field turns out to belong to the connection: it stays, and is found by no name any more.
    pub(crate) fn hide(&mut self, place: usize) {
        let field = &mut self.list[place];
        field.hop_by_hop = true;
        if let Some(known) = field.known {
            self.slots[known as usize] = NONE;
            self.repeated &= !(1 << (known as u8));
        }
    }

    pub(crate) fn list(&self) -> &[Field] {
        &self.list
    }

    /// The first field of that name.
    pub(crate) fn first(&self, known: Known) -> Option<Field> {
        self.list.get(usize::from(self.slots[known as usize])).copied()
    }

    pub(crate) fn has(&self, known: Known) -> bool {
        self.slots[known as usize] != NONE
    }

    pub(crate) fn is_repeated(&self, known: Known) -> bool {
        self.repeated & (1 << (known as u8)) != 0
    }
}

/// What a head and its trailers have in common: bytes, and fields in them.
macro_rules! field_access {
    ($type:ty) => {
        impl $type {
            /// The fields in their order: what is known of each, its name and its value.
            pub fn fields(&self) -> impl Iterator<Item = (&$crate::Field, &[u8], &[u8])> {
                self.fields.list().iter().map(|field| (field, self.name_of(field), self.value_of(field)))
            }

            /// How many fields there are.
            pub fn field_count(&self) -> usize {
                self.fields.len()
            }

            /// The value of the first field of that name.
            pub fn value(&self, known: $crate::Known) -> Option<&[u8]> {
                self.fields.first(known).map(|field| &self.bytes[field.value().range()])
            }

            /// The value of the field of that name where it stands exactly once.
            pub fn only_value(&self, known: $crate::Known) -> Option<&[u8]> {
                if self.is_repeated(known) { None } else { self.value(known) }
            }

            /// Whether there is such a field.
            pub fn has(&self, known: $crate::Known) -> bool {
                self.fields.has(known)
            }

            /// Whether such a field stands more than once.
            pub fn is_repeated(&self, known: $crate::Known) -> bool {
                self.fields.is_repeated(known)
            }

            /// The values of all fields of that name.
            pub fn values(&self, known: $crate::Known) -> impl Iterator<Item = &[u8]> {
                let wanted = self.fields.has(known);
                let fields = if wanted { self.fields.list() } else { &[] };
                fields
                    .iter()
                    .filter(move |field| field.known() == Some(known))
                    .map(|field| self.value_of(field))
            }

            /// The values of all fields of a name in lower case, known or not, but for those of the connection.
            pub fn values_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
                let named = move |(field, own, _): &(&$crate::Field, &[u8], &[u8])| {
                    !field.hop_by_hop && own.eq_ignore_ascii_case(name.as_bytes())
                };
                self.fields().filter(named).map(|(_, _, value)| value)
            }

            fn name_of(&self, field: &$crate::Field) -> &[u8] {
                &self.bytes[field.name().range()]
            }

            fn value_of(&self, field: &$crate::Field) -> &[u8] {
                &self.bytes[field.value().range()]
            }
        }
    };
}
pub(crate) use field_access;

impl Field {
    pub(crate) fn name(&self) -> Span {
        self.name
    }

    pub(crate) fn value(&self) -> Span {
        self.value
    }
}
