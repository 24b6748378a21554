//! The nearest valid word to a misspelt one.

/// Words longer than this are never compared, so that a hostile file costs nothing.
const MAX_WORD_CHARS: usize = 64;

/// The candidate that the word was most likely meant to be: at most 2 edits away, or a third of its length.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(MAX_WORD_CHARS + 1).flat_map(char::to_lowercase).collect();
    if word.len() > MAX_WORD_CHARS {
        return None;
    }
    let near = candidates.into_iter().filter_map(|candidate| {
        let target: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
        let edits = distance(&word, &target);
        let allowed = edits <= 2.max(target.len() / 3) && edits < word.len();
        allowed.then_some((edits, candidate))
    });
    near.min_by_key(|(edits, _)| *edits).map(|(_, candidate)| candidate)
}

/// `a, b or c`, with every word in backticks.
pub(crate) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// The optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, &a) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, &b) in right.iter().enumerate() {
            let replaced = above[column] + usize::from(a != b);
            let mut best = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && a == right[column - 1] && left[row - 1] == b {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut above, current);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_finds_its_neighbour() {
        let keys = ["replicas", "required", "healthCheck", "routes", "min", "max"];
        for (word, expected) in [
            ("replcas", Some("replicas")),
            ("repilcas", Some("replicas")),
            ("healthcheck", Some("healthCheck")),
            ("health_check", Some("healthCheck")),
            ("route", Some("routes")),
            ("REPLICAS", Some("replicas")),
            ("mni", Some("min")),
            ("x", None),
            ("", None),
            ("endpoints", None),
        ] {
            assert_eq!(nearest(word, keys), expected, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1_000_000), keys), None);
    }

    #[test]
    fn a_swap_of_neighbours_is_one_edit() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        for (left, right, edits) in
            [("", "", 0), ("ab", "ba", 1), ("abc", "", 3), ("", "abc", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(&chars(left), &chars(right)), edits, "{left} {right}");
        }
    }
}
