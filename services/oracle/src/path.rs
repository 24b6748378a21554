//! One value out of a JSON document, by JSONPath (RFC 9535), within bounds.
//!
//! The evaluator cannot be interrupted, so a path is refused before it runs unless its cost is about linear in the size
//! of the document. Nothing here may run on the event loop: a document has up to 2 MB.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json_path::JsonPath;

use crate::error::OracleError;

/// The longest path, in bytes.
const MAX_PATH_BYTES: usize = 256;
/// `..` segments of a path: a second one makes the cost quadratic.
const MAX_DESCENDANT_SEGMENTS: usize = 1;
/// Selectors within one pair of brackets. Only one pair may have several, since overlapping selectors in a row multiply.
const MAX_SELECTORS: usize = 8;
/// Brackets and parentheses that are open at once.
const MAX_NESTING: usize = 6;
/// Mentions of the current node `@` in filters: each is evaluated for every node that the filter sees.
const MAX_CURRENT_NODES: usize = 8;
/// The most nodes that a path may select.
const MAX_NODES: usize = 1_000;
/// The largest result, in bytes of JSON.
const MAX_RESULT_BYTES: usize = 64 * 1024;

/// A path whose cost is bounded.
#[derive(Debug, Clone)]
pub(crate) struct Path(JsonPath);

impl Path {
    pub(crate) fn parse(text: &str) -> Result<Self, OracleError> {
        check_cost(text).map_err(|reason| OracleError::Path(format!("the path is refused: {reason}")))?;
        let path = JsonPath::parse(text).map_err(|error| {
            let (position, message) = (error.position(), error.message());
            OracleError::Path(format!("the path does not parse at byte {position} (RFC 9535): {message}"))
        })?;
        Ok(Self(path))
    }
}

/// Parses a document and selects from it: the node, an array of the nodes where there are several, or without a path
/// the whole document.
pub(crate) fn extract(document: &[u8], path: Option<&Path>) -> Result<Value, OracleError> {
    let document: Value =
        serde_json::from_slice(document).map_err(|error| OracleError::NotJson(error.to_string()))?;
    let Some(Path(path)) = path else { return bounded(&document) };
    let nodes = path.query(&document).all();
    match nodes.as_slice() {
        [] => Err(OracleError::Path("the path selects nothing in the source's answer".to_owned())),
        [node] => bounded(node),
        nodes if nodes.len() > MAX_NODES => {
            Err(OracleError::Path(format!("the path selects {} nodes, more than {MAX_NODES}", nodes.len())))
        }
        nodes => bounded(nodes),
    }
}

/// A copy of a part of the document. It is written before it is copied, because nodes may overlap and so be much larger
/// together than the document.
fn bounded<T: Serialize + ?Sized>(part: &T) -> Result<Value, OracleError> {
    let mut written = Bounded(Vec::new());
    serde_json::to_writer(&mut written, part)
        .map_err(|_| OracleError::Path(format!("the result has more than {MAX_RESULT_BYTES} bytes")))?;
    Ok(serde_json::from_slice(&written.0).expect("what was just written reads back"))
}

struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_RESULT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One open bracket or parenthesis.
struct Open {
    bracket: u8,
    selectors: usize,
}

/// Bounds the cost from the path's text, outside its string literals.
///
/// A filter that starts at the root again (`$[?count($[*]) > 0]`) is quadratic by itself, so `$` stands only at the
/// beginning.
fn check_cost(text: &str) -> Result<(), String> {
    if text.len() > MAX_PATH_BYTES {
        return Err(format!("it has more than {MAX_PATH_BYTES} bytes"));
    }
    let (mut open, mut descendants, mut unions, mut currents) = (Vec::<Open>::new(), 0, 0, 0);
    let bare = without_strings(text);
    for (index, &byte) in bare.iter().enumerate() {
        match byte {
            b'$' if index > 0 => {
                return Err("a filter may refer to the current node @, not to the root $".to_owned());
            }
            b'@' => currents += 1,
            b'.' if bare.get(index + 1) == Some(&b'.') => descendants += 1,
            b'[' | b'(' => open.push(Open { bracket: byte, selectors: 1 }),
            b']' | b')' => drop(open.pop()),
            b',' => {
                let Some(innermost) = open.last_mut().filter(|open| open.bracket == b'[') else { continue };
                innermost.selectors += 1;
                unions += usize::from(innermost.selectors == 2);
                if innermost.selectors > MAX_SELECTORS {
                    return Err(format!(
                        "it has more than {MAX_SELECTORS} selectors in one pair of brackets"
                    ));
                }
            }
            _ => {}
        }
        if open.len() > MAX_NESTING {
            return Err(format!("its brackets are nested more than {MAX_NESTING} deep"));
        }
    }
    if descendants > MAX_DESCENDANT_SEGMENTS {
        return Err(format!("it has more than {MAX_DESCENDANT_SEGMENTS} descendant segment (..)"));
    }
    if currents > MAX_CURRENT_NODES {
        return Err(format!("its filters name the current node @ more than {MAX_CURRENT_NODES} times"));
    }
    if unions > 1 {
        return Err("it has several selectors in more than one pair of brackets".to_owned());
    }
    Ok(())
}

/// The bytes of the path with everything between quotes blanked out.
fn without_strings(text: &str) -> Vec<u8> {
    let (mut quote, mut escaped) = (None, false);
    let bare = |byte: u8| match quote {
        Some(_) if escaped => {
            escaped = false;
            b' '
        }
        Some(_) if byte == b'\\' => {
            escaped = true;
            b' '
        }
        Some(open) => {
            quote = quote.filter(|_| byte != open);
            b' '
        }
        None => {
            quote = Some(byte).filter(|byte| matches!(byte, b'\'' | b'"'));
            byte
        }
    };
    text.bytes().map(bare).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use expect_test::expect;

    use super::*;

    const DOCUMENT: &str = r#"{"data":{"price":17912.90,"huge":123456789012345678901234567890.10,"tiny":1e-30},
        "list":[{"s":"BTC","p":"1.10"},{"s":"ETH","p":"2.20"},{"s":"a,b[(..$","p":"3"}],"null":null}"#;

    fn selected(path: &str) -> String {
        match Path::parse(path).and_then(|path| extract(DOCUMENT.as_bytes(), Some(&path))) {
            Ok(value) => value.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn paths_select_values_with_all_their_digits() {
        let paths = [
            "$.data.price",
            "$['data']['huge']",
            "$.data.tiny",
            "$.list[0]",
            "$.list[*].p",
            "$.list[0,1]['p']",
            "$.list[-1:].p",
            "$..p",
            "$.list[?@.s == 'ETH'].p",
            "$.list[?@.s == 'a,b[(..$'].p",
            "$.list[?count(@.*) == 2].s",
            "$.null",
            "$.list[?length(@.s) > 3].p",
        ];
        let text: String = paths.iter().map(|path| format!("{path}  {}\n", selected(path))).collect();
        expect![[r#"
            $.data.price  17912.90
            $['data']['huge']  123456789012345678901234567890.10
            $.data.tiny  1e-30
            $.list[0]  {"s":"BTC","p":"1.10"}
            $.list[*].p  ["1.10","2.20","3"]
            $.list[0,1]['p']  ["1.10","2.20"]
            $.list[-1:].p  "3"
            $..p  ["1.10","2.20","3"]
            $.list[?@.s == 'ETH'].p  "2.20"
            $.list[?@.s == 'a,b[(..$'].p  "3"
            $.list[?count(@.*) == 2].s  ["BTC","ETH","a,b[(..$"]
            $.null  null
            $.list[?length(@.s) > 3].p  "3"
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn paths_that_are_wrong_or_dear_are_refused() {
        let paths = [
            "",
            "price",
            "$.",
            "$[",
            "$.data.nothing",
            "$..a..b",
            "$..*..*..*..*",
            "$[?@..a..b]",
            "$[?count($[*]) > 0]",
            "$[*,*][*,*][*,*]",
            "$[0,0,0,0,0,0,0,0,0]",
            "$[?((((((@.a))))))]",
            "$[?@==@&&@==@&&@==@&&@==@&&@==@]",
            "$[?match(@.a, 'x')]",
            "$[?@['it\\'s'] == $]",
        ];
        let text: String = paths.iter().map(|path| format!("{path:?}  {}\n", selected(path))).collect();
        expect![[r#"
            ""  the path does not parse at byte 0 (RFC 9535): parser error
            "price"  the path does not parse at byte 0 (RFC 9535): parser error
            "$."  the path does not parse at byte 2 (RFC 9535): in dot member name, must start with lowercase alpha or '_'
            "$["  the path does not parse at byte 1 (RFC 9535): parser error
            "$.data.nothing"  the path selects nothing in the source's answer
            "$..a..b"  the path is refused: it has more than 1 descendant segment (..)
            "$..*..*..*..*"  the path is refused: it has more than 1 descendant segment (..)
            "$[?@..a..b]"  the path is refused: it has more than 1 descendant segment (..)
            "$[?count($[*]) > 0]"  the path is refused: a filter may refer to the current node @, not to the root $
            "$[*,*][*,*][*,*]"  the path is refused: it has several selectors in more than one pair of brackets
            "$[0,0,0,0,0,0,0,0,0]"  the path is refused: it has more than 8 selectors in one pair of brackets
            "$[?((((((@.a))))))]"  the path is refused: its brackets are nested more than 6 deep
            "$[?@==@&&@==@&&@==@&&@==@&&@==@]"  the path is refused: its filters name the current node @ more than 8 times
            "$[?match(@.a, 'x')]"  the path does not parse at byte 3 (RFC 9535): in long-hand segment, function name 'match' is not defined
            "$[?@['it\\'s'] == $]"  the path is refused: a filter may refer to the current node @, not to the root $
        "#]].assert_eq(&text);
        assert!(selected(&format!("$.{}", "a".repeat(254))).contains("selects nothing"));
        assert!(selected(&format!("$.{}", "a".repeat(255))).contains("more than 256 bytes"));
    }

    #[test]
    fn results_are_bounded_in_nodes_and_in_bytes() {
        let extracted = |document: &str, path: Option<&str>| {
            let path = path.map(|path| Path::parse(path).unwrap());
            extract(document.as_bytes(), path.as_ref())
                .map(|value| value.to_string().len())
                .map_err(|e| e.to_string())
        };
        let list = |items: usize| format!("[{}]", vec!["0"; items].join(","));
        assert_eq!(extracted(&list(1_000), Some("$[*]")), Ok(2_001));
        assert_eq!(
            extracted(&list(1_001), Some("$[*]")),
            Err("the path selects 1001 nodes, more than 1000".into())
        );
        let string = |bytes: usize| format!("\"{}\"", "a".repeat(bytes - 2));
        assert_eq!(extracted(&string(65_536), None), Ok(65_536));
        assert_eq!(extracted(&string(65_537), None), Err("the result has more than 65536 bytes".into()));
        let nested = format!("{}{}{}", "[".repeat(100), list(1_000), "]".repeat(100));
        assert_eq!(extracted(&nested, Some("$..[0]")), Err("the result has more than 65536 bytes".into()));
    }

    #[test]
    fn what_is_not_json_is_said_to_be_so() {
        for document in ["", "<html>", "{} {}", "{\"a\":}", "01", "NaN", &"[".repeat(1_000)] {
            assert!(matches!(extract(document.as_bytes(), None), Err(OracleError::NotJson(_))), "{document}");
        }
    }

    #[test]
    fn the_dearest_paths_over_the_largest_documents_end_soon() {
        let flat = format!("[{}]", vec!["0"; 100_000].join(","));
        let deep = format!("{}{}{}", "[".repeat(120), vec!["0"; 100_000].join(","), "]".repeat(120));
        let paths = [
            "$..*",
            "$..[*,*,*,*,*,*,*,*]",
            "$[?count(@..*)>0]",
            "$..[?@==@&&@==@&&@==@&&@==@]",
            "$..[?@[?@[?@[?@]]]]",
            "$..[?@[*]&&@[*]&&@[*]&&@[*]&&@[*]&&@[*]&&@[*]&&@[*]]",
            "$[?count(value(count(value(count(@",
        ];
        let began = Instant::now();
        for path in paths {
            for document in [&flat, &deep] {
                // Whether it selects anything is not the question here.
                let _any = Path::parse(path).and_then(|path| extract(document.as_bytes(), Some(&path)));
            }
        }
        // Unbounded, a single one of the refused paths takes longer than the age of the tests.
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    }
}
