use std::fs;
use std::io::ErrorKind;

use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use proptest::prelude::*;

use super::*;

const GENESIS: [u8; 32] = [7; 32];

/// A data directory with a key, and a trail that may be opened over and over.
struct Place {
    folder: tempfile::TempDir,
    key: Arc<EcdsaKeyPair>,
}

impl Place {
    fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), key: Arc::new(key) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(FILE_NAME)
    }

    fn open(&self) -> Result<AuditTrail, AuditError> {
        AuditTrail::open(&self.path(), GENESIS, Arc::clone(&self.key), 2_000)
    }

    fn text(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    fn verify(&self, text: &[u8]) -> Result<Verified, AuditFault> {
        verify(text, &GENESIS, self.key.public_key().as_der().unwrap().as_ref())
    }

    /// A trail of so many records, and a head at the end.
    fn with_records(records: u64) -> Self {
        let place = Self::new();
        let mut trail = place.open().unwrap();
        for number in 1..=records {
            trail.append(entry(number), 1_000 + number).unwrap();
        }
        trail.sign_head(3_000).unwrap();
        place
    }

    fn lines(&self) -> Vec<Vec<u8>> {
        self.text().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    }

    /// The fault of the file once it holds these lines; neither verifying nor opening may pass them.
    fn fault(&self, lines: &[Vec<u8>]) -> String {
        let text = lines.concat();
        let fault = self.verify(&text).unwrap_err().to_string();
        fs::write(self.path(), &text).unwrap();
        let refused = self.open().map(drop).unwrap_err();
        assert!(matches!(&refused, AuditError::Damaged { .. }), "{refused}");
        assert!(refused.to_string().contains(&fault), "{refused}");
        assert_eq!(self.text(), text, "nothing is written to a trail that does not verify");
        fault
    }
}

fn entry(number: u64) -> Entry {
    Entry {
        kind: "join".into(),
        actor: "supervisor".into(),
        subject: format!("spiffe://serviceos.dev.invalid/service/vrf/{number}"),
        outcome: if number.is_multiple_of(2) { Outcome::Refused } else { Outcome::Done },
        reason: number.is_multiple_of(2).then(|| "NONCE_EXPIRED é\n\"".to_owned()),
        data: json!({ "n": number, "price": 1.5, "Z": [null, true], "a": {} }),
    }
}

#[test]
fn a_line_has_the_bytes_that_its_description_says() {
    let place = Place::with_records(1);
    let record = r#"{"actor":"supervisor","data":{"Z":[null,true],"a":{},"n":1,"price":1.5},"kind":"join","outcome":"done","prev":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc","reason":null,"seq":1,"subject":"spiffe://serviceos.dev.invalid/service/vrf/1","time":1001,"v":1}"#;
    let length = u32::try_from(record.len()).unwrap().to_be_bytes();
    let hash = sha256(&[b"serviceos/audit/v1\0".as_slice(), &length, record.as_bytes()].concat());
    let hash = serde_json::to_string(&Bytes(hash.to_vec())).unwrap();
    let lines = place.lines();
    assert_eq!(String::from_utf8_lossy(&lines[0]), format!("{{\"hash\":{hash},\"record\":{record}}}\n"));
    let head = format!("{{\"head\":{{\"hash\":{hash},\"seq\":1,\"time\":3000}},\"signature\":\"");
    assert!(lines[1].starts_with(head.as_bytes()), "{}", String::from_utf8_lossy(&lines[1]));
}

#[test]
fn a_reopened_trail_continues_its_chain_and_is_its_owners_alone() {
    let place = Place::new();
    let mut trail = place.open().unwrap();
    assert_eq!(trail.signed_head(), AuditHead { seq: 0, hash: GENESIS });
    trail.sign_head(1).unwrap();
    assert!(place.text().is_empty(), "there was nothing to sign");
    assert_eq!(trail.append(entry(1), 1).unwrap(), 1);
    trail.sign_head(1).unwrap();
    assert_eq!(trail.append(entry(2), 1).unwrap(), 2);
    drop(trail);
    let mut trail = place.open().unwrap();
    assert_eq!((trail.unsigned(), trail.signed_head().seq), (1, 1));
    assert_eq!(trail.append(entry(3), 1).unwrap(), 3);
    trail.sign_head(1).unwrap();
    let found = place.verify(&place.text()).unwrap();
    assert_eq!((found.records(), found.heads, found.last_signed(), found.unsigned()), (3, 2, 3, 0));
    assert_eq!(trail.signed_head(), AuditHead { seq: 3, hash: found.last_hash() });
    assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_head_is_signed_after_64_records_without_being_asked_for() {
    let place = Place::new();
    let mut trail = place.open().unwrap();
    for number in 1..=130 {
        trail.append(entry(number), number).unwrap();
        assert_eq!(trail.unsigned(), number % RECORDS_PER_HEAD);
    }
    let found = place.verify(&place.text()).unwrap();
    assert_eq!((found.records(), found.heads, found.last_signed(), found.unsigned()), (130, 2, 128, 2));
}

#[test]
fn a_changed_byte_anywhere_is_found() {
    let place = Place::with_records(3);
    let text = place.text();
    for place_of_byte in 0..text.len() {
        for mask in [0x01, 0x04, 0x20, 0x80] {
            let mut changed = text.clone();
            changed[place_of_byte] ^= mask;
            let found = place.verify(&changed);
            // Without its line feed the last line is an unfinished one, and that is said too.
            let unfinished = place_of_byte == text.len() - 1;
            assert_eq!(
                found.is_ok_and(|found| !found.torn.is_empty()),
                unfinished,
                "byte {place_of_byte} ^ {mask}"
            );
        }
    }
}

#[test]
fn lines_that_are_missing_or_exchanged_or_stand_twice_are_found() {
    let place = Place::with_records(70);
    let lines = place.lines();
    assert_eq!(lines.len(), 72, "70 records and the heads after 64 and 70");
    let without = |number: usize| [&lines[..number], &lines[number + 1..]].concat();
    let twice = |number: usize| [&lines[..=number], &lines[number..]].concat();
    let exchanged = |a: usize, b: usize| {
        let mut lines = lines.clone();
        lines.swap(a, b);
        lines
    };
    let faults = [
        ("without record 1", without(0)),
        ("without record 40", without(39)),
        ("without the head of 64", without(64)),
        ("record 40 twice", twice(39)),
        ("the head of 64 twice", twice(64)),
        ("records 40 and 41 exchanged", exchanged(39, 40)),
        ("record 64 and its head exchanged", exchanged(63, 64)),
        ("the two heads exchanged", exchanged(64, 71)),
        ("the last two records missing", [&lines[..69], &lines[71..]].concat()),
    ];
    let report: Vec<_> =
        faults.iter().map(|(name, lines)| format!("{name}: {}", place.fault(lines))).collect();
    expect_test::expect![[r#"
        without record 1: line 1: it is record 2 where record 1 belongs
        without record 40: line 40: it is record 41 where record 40 belongs
        without the head of 64: line 65: 64 records stand before it without a signed head
        record 40 twice: line 41: it is record 40 where record 41 belongs
        the head of 64 twice: line 66: it signs another record than the one before it, or one that is signed already
        records 40 and 41 exchanged: line 40: it is record 41 where record 40 belongs
        record 64 and its head exchanged: line 64: it signs another record than the one before it, or one that is signed already
        the two heads exchanged: line 65: it signs another record than the one before it, or one that is signed already
        the last two records missing: line 70: it signs another record than the one before it, or one that is signed already"#]]
    .assert_eq(&report.join("\n"));
}

#[test]
fn a_chain_that_was_written_anew_is_found_by_its_heads() {
    let place = Place::with_records(3);
    let old_head = place.lines()[3].clone();
    let forged = Place::new();
    let mut trail = forged.open().unwrap();
    for number in 1..=3 {
        trail.append(Entry { subject: "another".into(), ..entry(number) }, number).unwrap();
    }
    let rewritten = forged.lines();
    assert_eq!(rewritten.len(), 3);
    trail.sign_head(1).unwrap();
    let other_key = forged.lines()[3].clone();
    assert_eq!(
        place.fault(&[rewritten.clone(), vec![old_head]].concat()),
        "line 4: it signs another record than the one before it, or one that is signed already"
    );
    assert_eq!(
        place.fault(&[rewritten.clone(), vec![other_key]].concat()),
        "line 4: its signature was not made with the authority's key"
    );
    assert_eq!(
        place.verify(&rewritten.concat()).unwrap().last_signed(),
        0,
        "without a head nothing is vouched for"
    );
}

#[test]
fn a_trail_of_another_mesh_and_a_line_without_end_are_refused() {
    let place = Place::with_records(1);
    let spki = place.key.public_key().as_der().unwrap();
    let other = verify(place.text().as_slice(), &[8; 32], spki.as_ref()).unwrap_err();
    assert!(matches!(other, AuditFault { line: 1, what: Flaw::Link }));
    let endless = verify(BufReader::new(io::repeat(b'x')), &GENESIS, spki.as_ref()).unwrap_err();
    assert!(matches!(endless, AuditFault { line: 1, what: Flaw::TooLong }));
}

#[test]
fn the_same_record_in_other_words_is_refused() {
    let place = Place::with_records(1);
    let lines = place.lines();
    let line = String::from_utf8(lines[0].clone()).unwrap();
    for (from, to) in [
        (r#""seq":1"#, r#""seq": 1"#),
        (r#""seq":1"#, r#""seq":1.0"#),
        (r#""seq":1"#, r#""seq":1,"seq":1"#),
        ("join", r"j\u006fin"),
        (r#""v":1"#, r#""v":1,"w":2"#),
        (r#""reason":null,"#, ""),
        ("}\n", "}\r\n"),
    ] {
        assert!(line.contains(from), "{from}");
        let changed = line.replacen(from, to, 1).into_bytes();
        let found = place.verify(&changed).unwrap_err();
        assert!(matches!(found, AuditFault { line: 1, what: Flaw::Form }), "{to}: {found}");
    }
}

#[test]
fn an_unfinished_last_line_is_replaced_by_a_record_that_says_so() {
    let whole = Place::with_records(2);
    let text = whole.text();
    let lines = whole.lines();
    let kept = lines[0].len() + lines[1].len();
    for length in kept + 1..text.len() {
        fs::write(whole.path(), &text[..length]).unwrap();
        whole.open().unwrap();
        let found = whole.verify(&whole.text()).unwrap();
        assert_eq!((found.records(), found.torn.len()), (3, 0), "{length}");
        let repaired: serde_json::Value = serde_json::from_slice(&whole.lines()[2]).unwrap();
        assert_eq!(repaired["record"]["kind"], "audit-repaired");
        assert_eq!(repaired["record"]["data"]["bytes"].to_string(), (length - kept).to_string());
        whole.open().unwrap();
        assert_eq!(whole.verify(&whole.text()).unwrap(), found, "it is repaired once");
    }
}

#[test]
fn a_head_that_a_crash_took_is_signed_before_the_next_record() {
    let place = Place::new();
    let mut trail = place.open().unwrap();
    for number in 1..=RECORDS_PER_HEAD {
        trail.append(entry(number), number).unwrap();
    }
    let (text, lines) = (place.text(), place.lines());
    let records = text.len() - lines[64].len();
    for left_of_head in [0, 1, 100] {
        fs::write(place.path(), &text[..records + left_of_head]).unwrap();
        place.open().unwrap().append(entry(65), 65).unwrap();
        let found = place.verify(&place.text()).unwrap();
        let repaired = u64::from(left_of_head > 0);
        assert_eq!((found.records(), found.heads, found.last_signed()), (65 + repaired, 1, 64));
    }
}

#[test]
fn a_record_that_is_too_large_or_would_not_read_back_is_refused() {
    let place = Place::new();
    let mut trail = place.open().unwrap();
    let with_data = |data| Entry { data, ..entry(1) };
    let too_large = trail.append(with_data(json!("x".repeat(MAX_RECORD_BYTES))), 1);
    assert!(matches!(too_large, Err(AuditError::TooLarge)));
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let infinite: serde_json::Value = serde_json::from_str("1e999").unwrap();
    // The name under which serde_json hides its numbers.
    let hidden = json!({ "$serde_json::private::Number": "1" });
    for data in [deep, infinite, hidden] {
        assert!(matches!(trail.append(with_data(data), 1), Err(AuditError::Unreadable(_))));
    }
    assert!(place.text().is_empty());
    assert_eq!(trail.append(with_data(json!("x".repeat(MAX_RECORD_BYTES - 400))), u64::MAX).unwrap(), 1);
    trail.sign_head(u64::MAX).unwrap();
    drop(trail);
    place.open().unwrap();
}

/// A disk that takes so many bytes more, and may then refuse to be cut.
struct Filling {
    file: File,
    room: usize,
    cuts: bool,
}

impl Disk for Filling {
    fn end_with(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() && !self.cuts {
            return Err(ErrorKind::Other.into());
        }
        let taken = &bytes[..bytes.len().min(self.room)];
        self.room -= taken.len();
        self.file.end_with(offset, taken)?;
        if taken.len() == bytes.len() { Ok(()) } else { Err(ErrorKind::StorageFull.into()) }
    }
}

fn filling(place: &Place, room: usize, cuts: bool) -> Box<Filling> {
    Box::new(Filling { file: File::options().write(true).open(place.path()).unwrap(), room, cuts })
}

#[test]
fn on_a_full_disk_nothing_is_recorded_and_the_trail_goes_on_once_there_is_room() {
    let place = Place::new();
    let mut trail = place.open().unwrap();
    for number in 1..RECORDS_PER_HEAD {
        trail.append(entry(number), number).unwrap();
    }
    drop(trail);
    let text = place.text();
    // The last has room for the record and not for the head that is written with it.
    for room in [0, 1, 200, 450] {
        let mut trail = place.open().unwrap();
        trail.disk = filling(&place, room, true);
        assert!(matches!(trail.append(entry(64), 1), Err(AuditError::Disk { .. })), "{room}");
        assert_eq!(place.text(), text);
        trail.disk = filling(&place, 1 << 20, true);
        assert_eq!(trail.append(entry(64), 1).unwrap(), 64);
        let found = place.verify(&place.text()).unwrap();
        assert_eq!((found.records(), found.last_signed()), (64, 64));
        let last_two = place.lines().split_off(63).concat().len();
        assert!((451..600).contains(&last_two), "{last_two}");
        fs::write(place.path(), &text).unwrap();
    }
}

#[test]
fn a_disk_that_does_not_confirm_the_undoing_is_written_to_no_more() {
    let place = Place::with_records(1);
    let mut trail = place.open().unwrap();
    trail.disk = filling(&place, 100, false);
    assert!(matches!(trail.append(entry(2), 1), Err(AuditError::Unconfirmed(_))));
    trail.disk = filling(&place, 1 << 20, true);
    assert!(matches!(trail.append(entry(2), 1), Err(AuditError::Unconfirmed(_))));
    drop(trail);
    assert_eq!(
        place.open().unwrap().append(entry(3), 1).unwrap(),
        3,
        "record 2 says that the line was unfinished"
    );
}

#[test]
fn a_repair_that_fails_leaves_the_unfinished_line_for_the_next_start() {
    let place = Place::with_records(1);
    let text = [place.text().as_slice(), b"{\"hash\":\""].concat();
    fs::write(place.path(), &text).unwrap();
    let mut trail = AuditTrail {
        disk: filling(&place, 5, true),
        path: place.path(),
        length: text.len() as u64 - 9,
        chain: place.verify(&text).unwrap().chain,
        key: Arc::clone(&place.key),
        unconfirmed: false,
    };
    assert!(matches!(trail.repair(b"{\"hash\":\"", 1), Err(AuditError::Disk { .. })));
    drop(trail);
    place.open().unwrap();
    let last = place.lines().pop().unwrap();
    assert!(String::from_utf8(last).unwrap().contains("audit-repaired"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_happens_to_the_process_no_confirmed_record_is_lost(
        steps in prop::collection::vec((0_u8..6, any::<u16>()), 1..60),
    ) {
        let place = Place::new();
        let mut trail = place.open().unwrap();
        let mut confirmed = 0;
        for (step, number) in steps {
            match step {
                0..=2 => confirmed = trail.append(entry(number.into()), number.into()).unwrap(),
                3 => trail.sign_head(number.into()).unwrap(),
                // Killed while the next line was written.
                4 => {
                    let before = place.text();
                    trail.append(entry(number.into()), 1).unwrap();
                    drop(trail);
                    let after = place.text();
                    let torn = before.len() + usize::from(number) % (after.len() - before.len());
                    fs::write(place.path(), &after[..torn]).unwrap();
                    trail = place.open().unwrap();
                    confirmed = place.verify(&place.text()).unwrap().records();
                }
                _ => {
                    drop(trail);
                    trail = place.open().unwrap();
                }
            }
            let found = place.verify(&place.text()).unwrap();
            prop_assert!(found.records() == confirmed && found.torn.is_empty());
        }
    }
}
