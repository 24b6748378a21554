//! Finds the one thing in an executable that the kernel opens besides it: the loader of its shared libraries (elf(5),
//! `PT_INTERP`). Nothing else of it is read.

use std::io;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
/// The kernel reads 64 KiB of program headers.
const MAX_PROGRAM_HEADERS: usize = (64 << 10) / PROGRAM_HEADER_BYTES;
/// `PATH_MAX`, the zero byte included.
const MAX_PATH_BYTES: u64 = 4096;

const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const EXECUTABLE: u16 = 2;
const SHARED: u16 = 3;
const PT_INTERP: u32 = 3;

/// The number of the processor that this is built for, where it is known here.
const MACHINE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(62)
} else if cfg!(target_arch = "aarch64") {
    Some(183)
} else {
    None
};

const CUT_OFF: &str = "it is cut off or damaged: build or install it again";

/// The path of the loader; `None` when the program is linked statically. `read` fills a buffer from an offset of the file.
pub(crate) fn loader(
    read: impl Fn(&mut [u8], u64) -> io::Result<()>,
) -> Result<Option<String>, &'static str> {
    let mut header = [0; HEADER_BYTES];
    if read(&mut header, 0).is_err() || !header.starts_with(MAGIC) {
        return Err("it is neither a program (ELF) nor a script: begin a script with #! and its interpreter");
    }
    check_kind(&header)?;
    let table = u64_at(&header, 32);
    let (entry_bytes, entries) = (usize::from(u16_at(&header, 54)), usize::from(u16_at(&header, 56)));
    if entry_bytes != PROGRAM_HEADER_BYTES || entries == 0 || entries > MAX_PROGRAM_HEADERS {
        return Err(CUT_OFF);
    }
    let mut headers = vec![0; entries * PROGRAM_HEADER_BYTES];
    read(&mut headers, table).map_err(|_| CUT_OFF)?;
    let mut headers = headers.chunks_exact(PROGRAM_HEADER_BYTES);
    // The kernel takes the first one.
    let Some(found) = headers.find(|header| u32_at(header, 0) == PT_INTERP) else { return Ok(None) };
    path(read, u64_at(found, 8), u64_at(found, 32)).map(Some)
}

fn check_kind(header: &[u8]) -> Result<(), &'static str> {
    if header[4] != CLASS_64 {
        return Err("it is a 32-bit program: build it for 64 bits");
    }
    if header[5] != LITTLE_ENDIAN {
        return Err("it is built for a big-endian processor: build it for this one");
    }
    if ![EXECUTABLE, SHARED].contains(&u16_at(header, 16)) {
        return Err("it is an object file or a core dump, not a program: link it");
    }
    if MACHINE.is_some_and(|machine| machine != u16_at(header, 18)) {
        return Err("it is built for another processor: build it for this one");
    }
    Ok(())
}

fn path(
    read: impl Fn(&mut [u8], u64) -> io::Result<()>,
    offset: u64,
    bytes: u64,
) -> Result<String, &'static str> {
    let length = Some(bytes).filter(|bytes| (2..=MAX_PATH_BYTES).contains(bytes));
    let length = length.and_then(|bytes| usize::try_from(bytes).ok()).ok_or(CUT_OFF)?;
    let mut path = vec![0; length];
    read(&mut path, offset).map_err(|_| CUT_OFF)?;
    if path.pop() != Some(0) {
        return Err(CUT_OFF);
    }
    // The kernel reads to the first zero byte.
    let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
    path.truncate(end);
    String::from_utf8(path).map_err(|_| "the path of its loader is not UTF-8: link it with another loader")
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, offset))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("the offsets are constants within the headers")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(file: &[u8]) -> Result<Option<String>, &'static str> {
        loader(|buffer, offset| {
            let start = usize::try_from(offset).ok().and_then(|start| file.get(start..));
            let bytes =
                start.and_then(|rest| rest.get(..buffer.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// The running test is linked dynamically or not, and this machine executes it.
    fn running() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    /// A program with one program header of the kind that names a loader.
    fn naming(loader: &[u8]) -> Vec<u8> {
        let mut file = vec![0; HEADER_BYTES + PROGRAM_HEADER_BYTES];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let mut put = |offset: usize, value: u64, bytes: usize| {
            file[offset..offset + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        };
        put(16, 3, 2);
        put(18, MACHINE.unwrap_or_default().into(), 2);
        put(32, 64, 8);
        put(54, 56, 2);
        put(56, 1, 2);
        put(64, 3, 4);
        put(64 + 8, 120, 8);
        put(64 + 32, loader.len() as u64, 8);
        [file.as_slice(), loader].concat()
    }

    #[test]
    fn the_loader_of_a_program_is_found() {
        assert_eq!(find(&naming(b"/lib64/ld.so\0")), Ok(Some("/lib64/ld.so".into())));
        assert_eq!(find(&naming(b"/lib64/ld.so\0x\0")), Ok(Some("/lib64/ld.so".into())));
        let found = find(&running()).unwrap();
        assert!(found.is_none_or(|path| std::path::Path::new(&path).is_file()));
    }

    #[test]
    fn a_program_without_a_loader_is_linked_statically() {
        let mut file = naming(b"/lib64/ld.so\0");
        file[64] = 1;
        assert_eq!(find(&file), Ok(None));
    }

    #[test]
    fn other_files_are_refused_with_what_they_are() {
        let refusal = |offset: usize, byte: u8| {
            let mut file = naming(b"/lib64/ld.so\0");
            file[offset] = byte;
            find(&file).unwrap_err()
        };
        assert!(refusal(0, b'X').contains("neither a program"));
        assert!(refusal(4, 1).contains("32-bit"));
        assert!(refusal(5, 2).contains("big-endian"));
        assert!(refusal(16, 1).contains("object file"));
        assert!(find(b"").unwrap_err().contains("neither a program"));
        if MACHINE.is_some() {
            assert!(refusal(18, 8).contains("another processor"));
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let whole = naming(b"/lib64/ld.so\0");
        for length in HEADER_BYTES..whole.len() {
            assert_eq!(find(&whole[..length]), Err(CUT_OFF), "{length}");
        }
        for (offset, byte) in [(54, 55), (56, 0), (57, 0xff), (64 + 32, 1), (64 + 33, 0x20), (39, 0x80)] {
            let mut file = whole.clone();
            file[offset] = byte;
            assert_eq!(find(&file), Err(CUT_OFF), "{offset}");
        }
        assert_eq!(find(&naming(b"/lib64/ld.so")), Err(CUT_OFF));
        assert!(find(&naming(b"/\xff\0")).unwrap_err().contains("UTF-8"));
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic(
            changes in proptest::collection::vec((0..HEADER_BYTES + PROGRAM_HEADER_BYTES, any::<u8>()), 0..8),
        ) {
            let mut file = naming(b"/lib64/ld.so\0");
            for (offset, byte) in changes {
                file[offset] = byte;
            }
            let _any = find(&file);
        }
    }
}
