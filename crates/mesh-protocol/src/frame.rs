//! Frames on the descriptor between a replica and its supervisor: a u32 length, big-endian, then the payload.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// The longest payload. An assignment is a service's configuration and a handful of keys.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// Why a message could not be exchanged.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The other end closed the descriptor between two frames.
    #[error("the other end closed the descriptor")]
    Closed,
    /// The other end announced a payload over [`MAX_FRAME_BYTES`].
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// The payload is not what it should be.
    #[error("a frame does not hold a well-formed {0}")]
    Malformed(&'static str),
    /// Reading or writing failed.
    #[error("the descriptor failed: {0}")]
    Io(#[from] io::Error),
}

/// Writes one frame.
pub async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), payload: &[u8]) -> Result<(), FrameError> {
    let length = u32::try_from(payload.len()).map_err(|_| FrameError::TooLarge(payload.len()))?;
    if payload.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(payload.len()));
    }
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(payload).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads one frame. The payload may hold secrets, so it is wiped when dropped.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(FrameError::Closed),
        Err(error) => return Err(error.into()),
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(length));
    }
    let mut payload = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_reads_back_and_a_closed_descriptor_is_told_from_a_cut_frame() {
        let (mut near, mut far) = tokio::io::duplex(64);
        write_frame(&mut near, b"hello").await.unwrap();
        assert_eq!(read_frame(&mut far).await.unwrap().as_slice(), b"hello");
        near.write_all(&[0, 0, 0, 9, 1]).await.unwrap();
        drop(near);
        assert!(matches!(read_frame(&mut far).await, Err(FrameError::Io(_))));
        assert!(matches!(read_frame(&mut far).await, Err(FrameError::Closed)));
    }

    #[tokio::test]
    async fn an_announced_length_over_the_limit_is_refused_before_memory_is_taken() {
        let (mut near, mut far) = tokio::io::duplex(64);
        near.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        assert!(matches!(read_frame(&mut far).await, Err(FrameError::TooLarge(_))));
    }
}
