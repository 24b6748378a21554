//! No text whatever makes the reader panic, and every error has a report.

use proptest::prelude::*;

use super::{FULL, read};

fn survive(text: &str) {
    if let Err(error) = read(text) {
        assert!(error.count() > 0 && error.to_string().contains(": "), "{error}");
    }
}

/// One change of a character: what is deleted at that place, and what is inserted.
fn edit() -> impl Strategy<Value = (prop::sample::Index, bool, Option<char>)> {
    let telling =
        prop::sample::select(":-{}[]*&!#|>'\"%@`,?~<\t\n\r\u{0}\u{feff}é😀0sa .".chars().collect::<Vec<_>>());
    let inserted = prop_oneof![Just(None), telling.prop_map(Some), any::<char>().prop_map(Some)];
    (any::<prop::sample::Index>(), any::<bool>(), inserted)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        survive(&text);
    }

    #[test]
    fn text_made_of_yaml_is_read_or_refused(text in "[-a-c:{}\\[\\]&*!|>'\"#?%, \n\t<~0-9.]{0,80}") {
        survive(&text);
    }

    #[test]
    fn a_changed_file_is_read_or_refused(edits in prop::collection::vec(edit(), 1..5)) {
        let mut chars: Vec<char> = FULL.chars().collect();
        for (place, delete, inserted) in edits {
            let place = place.index(chars.len());
            chars.splice(place..place + usize::from(delete), inserted);
        }
        survive(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn any_patterns_are_accepted_or_refused(paths in prop::collection::vec("/?([ab]?(\\{\\*?[ab]{0,2}\\}?)?[ab}]?/?){0,6}", 1..8)) {
        let mut text = "services:\n  vrf:\n    routes:\n".to_owned();
        for path in &paths {
            text.push_str(&format!("      - match: {{path: \"{path}\"}}\n"));
        }
        survive(&text);
    }

    #[test]
    fn any_value_of_any_key_is_read_or_refused(
        key in 0..FULL.matches(": ").count(),
        value in "[-+a-z0-9.:/_%*@{}\\[\\]~!]{0,12}",
    ) {
        // Every `key: value` of the full file in turn.
        let mut places = FULL.match_indices(": ").map(|(at, _)| at + 2);
        let at = places.nth(key).unwrap();
        let end = FULL[at..].find([',', '}', '\n']).map_or(FULL.len(), |end| at + end);
        survive(&format!("{}{value}{}", &FULL[..at], &FULL[end..]));
    }
}
