//! The head of a response: what is accepted means the same after it was sent on.

#![no_main]

use http::Method;
use http1::{
    Framing, HeadScan, Limits, ResponseHead, parse_response, write_decimal, write_field, write_status_line,
};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { head_bytes: 128 << 10, fields: 128, target_bytes: 1024 };

fn fields(head: &ResponseHead) -> Vec<(Vec<u8>, Vec<u8>)> {
    let own = head
        .fields()
        .filter(|(field, name, _)| !field.hop_by_hop && !name.eq_ignore_ascii_case(b"content-length"));
    own.map(|(_, name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect()
}

fuzz_target!(|bytes: &[u8]| {
    for method in [Method::GET, Method::HEAD] {
        judge(bytes, &method);
    }
});

fn judge(bytes: &[u8], method: &Method) {
    let Ok(Some(length)) = HeadScan::default().advance(bytes, &LIMITS) else { return };
    let mut head = ResponseHead::default();
    if parse_response(&bytes[..length], method, &LIMITS, &mut head).is_err() {
        return;
    }
    assert!(head.framing() != Framing::UntilClose || !head.persists());
    if head.status().is_informational() || *method == Method::HEAD {
        assert_eq!(head.framing(), Framing::Length(0));
    }
    if head.field_count() == LIMITS.fields {
        // The field that frames it would be one too many.
        return;
    }
    let mut out = Vec::new();
    write_status_line(&mut out, head.status());
    let fields_sent = fields(&head);
    for (name, value) in &fields_sent {
        write_field(&mut out, name, value);
    }
    match head.framing() {
        Framing::Length(0) => {}
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            write_decimal(&mut out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::UntilClose => out.extend_from_slice(b"connection: close\r\n"),
    }
    if head.framing() == Framing::Length(0) && !head.status().is_informational() && head.status() != 204 {
        out.extend_from_slice(b"content-length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
    let mut again = ResponseHead::default();
    assert_eq!(
        parse_response(&out, method, &LIMITS, &mut again),
        Ok(()),
        "sent on as {}",
        out.escape_ascii()
    );
    let meaning = |head: &ResponseHead| (head.status(), head.framing());
    assert_eq!(meaning(&again), meaning(&head), "sent on as {}", out.escape_ascii());
    let again: Vec<_> = fields(&again).into_iter().filter(|(name, _)| name != b"connection").collect();
    assert_eq!(again, fields_sent);
}
