//! The spelling of a route's path, and the names of its parameters.

/// The longest pattern, in bytes.
const MAX_PATH_BYTES: usize = 512;
/// The most parameters of one pattern; matchit ends the process at 26.
const MAX_PARAMETERS: usize = 16;

/// What a pattern must be, before matchit sees it: a path that a request can have, with parameters of one kind of
/// spelling. matchit's escapes (`{{`) are left out, since no request path holds a bare brace (RFC 3986, section 3.3).
pub(super) fn check_pattern(path: &str) -> Result<(), &'static str> {
    let Some(rest) = path.strip_prefix('/') else { return Err("a route's path begins with /") };
    if path.len() > MAX_PATH_BYTES {
        return Err("a route's path has at most 512 bytes");
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#;\"<>\\^`|".contains(&byte)) {
        return Err("a route's path has only the characters of a URL path, without a query or a semicolon");
    }
    if !has_only_needed_escapes(path) {
        return Err(
            "a route's path escapes only spaces and what lies outside of ASCII, in capitals and as short as it goes, as in `%C3%A9`",
        );
    }
    if path.matches('{').count() > MAX_PARAMETERS {
        return Err("a route's path has at most 16 parameters");
    }
    let segments: Vec<&str> = rest.split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        check_segment(segment, last)?;
    }
    Ok(())
}

/// Whether each escape is the only spelling of a character that a request may have: requests are looked up by their plain
/// spelling, and one with a control character, or with a character that UTF-8 writes in fewer bytes, is refused. With any of
/// these a route would never be found. `C0` and `C1` only begin such a character, `E0` and `F0` do before a low byte
/// (RFC 3629, section 4).
fn has_only_needed_escapes(path: &str) -> bool {
    // Of an escape that the next one follows without anything between them.
    let mut lead = None;
    path.split('%').skip(1).all(|after| {
        let Some(byte) = escaped(after) else { return false };
        let is_overlong = matches!((lead, byte), (Some(0xe0), ..0xa0) | (Some(0xf0), ..0x90));
        lead = (after.len() == 2).then_some(byte);
        !is_overlong && matches!(byte, b' ' | 0x80..=0xbf | 0xc2..)
    })
}

/// The byte that is written in capitals behind a percent sign.
fn escaped(after: &str) -> Option<u8> {
    let capital = |digits: &&str| digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    after.get(..2).filter(capital).and_then(|digits| u8::from_str_radix(digits, 16).ok())
}

fn check_segment(segment: &str, last: bool) -> Result<(), &'static str> {
    if segment.is_empty() && !last {
        return Err("a route's path has no empty part");
    }
    if segment == "." || segment == ".." {
        return Err("a route's path has no part `.` or `..`");
    }
    if let Some(name) = segment.strip_prefix("{*").and_then(|name| name.strip_suffix('}')) {
        if !last {
            return Err("`{*…}` stands only at the end of a path");
        }
        return check_parameter(name);
    }
    let Some((before, after)) = segment.split_once('{') else {
        return if segment.contains('}') { Err("a `}` closes a parameter") } else { Ok(()) };
    };
    let Some((name, after)) = after.split_once('}') else {
        return Err("a `{` opens a parameter that `}` closes");
    };
    if before.contains('}') || after.contains(['{', '}']) {
        return Err("a part of a path has at most one parameter");
    }
    check_parameter(name)
}

fn check_parameter(name: &str) -> Result<(), &'static str> {
    let word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if word && !name.is_empty() {
        Ok(())
    } else {
        Err("a parameter is letters, digits and underscores in braces")
    }
}

/// The names of the parameters of a valid pattern.
pub(super) fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| name.trim_start_matches('*'))
}
