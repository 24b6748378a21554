//! What the fuzz targets reach that is private otherwise. Nothing of it is part of a build without the feature `fuzzing`.

use std::net::SocketAddr;

/// For whom a PROXY header at the start of `input` connects, and the header's length; `None` while it is not whole.
///
/// # Errors
/// What is not a header.
pub fn proxy_header(input: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, &'static str> {
    let read = crate::proxy_protocol::read(input)?;
    Ok(read.map(|header| (header.source, header.length)))
}

/// Why a path is refused; `None` when it is plain.
pub fn path_ambiguity(path: &[u8]) -> Option<&'static str> {
    crate::path::ambiguity(path)
}
