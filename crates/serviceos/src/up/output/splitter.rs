//! Bytes to lines, however they come and however long the lines are.

/// The longest line that is passed on whole, in bytes.
pub(super) const MAX_LINE_BYTES: usize = 16 << 10;

/// What is read of a line that has not ended yet.
#[derive(Default)]
pub(super) struct Splitter {
    line: Vec<u8>,
    /// How much of it has no room.
    cut: u64,
    /// Set from where something was skipped to the next line end.
    skips: bool,
}

/// Where what was skipped ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mid {
    /// In a line.
    Line,
    /// Behind one.
    None,
}

/// A line without its end, and how many bytes of it are missing at its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) text: Vec<u8>,
    pub(super) cut: u64,
}

impl Splitter {
    /// Takes what comes next; gives how many bytes of it belong to no line that is passed on.
    pub(super) fn feed(&mut self, mut bytes: &[u8], lines: &mut Vec<Split>) -> u64 {
        let mut skipped = 0;
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if std::mem::take(&mut self.skips) {
                skipped += line.len() as u64 + 1;
            } else {
                self.append(line);
                lines.extend(self.end());
            }
            bytes = rest;
        }
        if self.skips {
            return skipped + bytes.len() as u64;
        }
        self.append(bytes);
        skipped
    }

    /// What comes next is not what follows: behind a line, or the rest of one that is not passed on. Gives how many bytes were
    /// here of the line that ends so.
    pub(super) fn skip(&mut self, mid: Mid) -> u64 {
        self.skips = mid == Mid::Line;
        let begun = self.line.len() as u64 + std::mem::take(&mut self.cut);
        self.line.clear();
        begun
    }

    /// Ends the line, if there is one.
    pub(super) fn end(&mut self) -> Option<Split> {
        self.skips = false;
        let (text, cut) = (std::mem::take(&mut self.line), std::mem::take(&mut self.cut));
        (!text.is_empty()).then_some(Split { text, cut })
    }

    fn append(&mut self, bytes: &[u8]) {
        let (fits, rest) = bytes.split_at(bytes.len().min(MAX_LINE_BYTES - self.line.len()));
        self.line.extend_from_slice(fits);
        self.cut += rest.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        for piece in pieces {
            assert_eq!(splitter.feed(piece, &mut lines), 0);
        }
        lines.extend(splitter.end());
        lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect()
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(split(&[b"one\ntw", b"o\n\nthr", b"ee"]), ["one", "two", "three"]);
        assert_eq!(split(&[b"", b"\n"]), [""; 0]);
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_is_whole() {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        splitter.feed(&vec![b'x'; MAX_LINE_BYTES - 1], &mut lines);
        splitter.feed(b"yz", &mut lines);
        splitter.feed(b"12\nnext\n", &mut lines);
        assert_eq!(
            (lines[0].text.len(), lines[0].cut, lines[0].text.last()),
            (MAX_LINE_BYTES, 3, Some(&b'y'))
        );
        assert_eq!(lines[1], Split { text: b"next".to_vec(), cut: 0 });
    }

    #[test]
    fn what_was_skipped_takes_the_rest_of_its_line_with_it_and_every_byte_is_counted() {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        splitter.feed(b"begun", &mut lines);
        assert_eq!(splitter.skip(Mid::Line), 5);
        assert_eq!(splitter.feed(b"the rest", &mut lines), 8);
        assert_eq!(splitter.feed(b" of it\nwhole\nand", &mut lines), 7);
        assert_eq!(lines, [Split { text: b"whole".to_vec(), cut: 0 }]);
        assert_eq!(splitter.skip(Mid::Line), 3);
        assert_eq!(splitter.end(), None);
        assert_eq!(splitter.skip(Mid::None), 0);
        assert_eq!(splitter.feed(b"whole\n", &mut lines), 0);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(text in "[a\n]{0,40}", cuts in prop::collection::vec(0_usize..40, 0..5)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let (mut pieces, mut from) = (Vec::new(), 0);
            for cut in cuts.into_iter().chain([text.len()]) {
                pieces.push(&text.as_bytes()[from..cut]);
                from = cut;
            }
            let expected: Vec<_> = text.split('\n').filter(|line| !line.is_empty()).collect();
            prop_assert_eq!(split(&pieces), expected);
        }
    }
}
