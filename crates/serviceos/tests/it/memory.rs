//! What the gateway holds of what passes through it.

use testkit::{Connection, Mesh, Running, Upstream, filler, memory_kib, reset_peak};

use crate::bodies::{head, write_until_held_up};

fn mesh(upstream: &Upstream) -> Running {
    let mesh = Mesh::new().gateway("limits: {bodyBytes: 1GiB}");
    mesh.endpoints("site", &[upstream.address]).up()
}

/// Makes every worker pay what requests cost once: code that is read in, buffers, connections to the replica. Returns the
/// memory that this leaves, in KiB.
fn warm_up(mesh: &Running) -> u64 {
    for _ in 0..16 {
        let mut client = Connection::open(mesh.gateway);
        for how in ["fixed", "chunked"] {
            client.write(head(mesh, &format!("GET /site/{how}/300000 HTTP/1.1")) + "\r\n").unwrap();
            assert_eq!(client.answer().unwrap().body.len(), 300_000);
        }
        client.write(head(mesh, "POST /site/echo HTTP/1.1") + "content-length: 300000\r\n\r\n").unwrap();
        client.write(filler(300_000)).unwrap();
        assert_eq!(client.answer().unwrap().status, 200);
    }
    reset_peak(mesh.pid());
    memory_kib(mesh.pid(), "VmRSS")
}

#[test]
fn one_gibibyte_uploaded_through_the_gateway_raises_its_memory_by_less_than_2_mib() {
    const SIZE: usize = 1 << 30;
    const PIECE: usize = 1 << 20;
    let upstream = Upstream::new();
    let mesh = mesh(&upstream);
    let before = warm_up(&mesh);
    let mut client = Connection::open(mesh.gateway);
    client
        .write(head(&mesh, "POST /site/sink HTTP/1.1") + &format!("content-length: {SIZE}\r\n\r\n"))
        .unwrap();
    let piece = vec![b'b'; 64 * PIECE];
    let mut written = write_until_held_up(&client, &piece);
    upstream.say("read on");
    while written < SIZE {
        let size = PIECE.min(SIZE - written);
        client.write(&piece[..size]).unwrap();
        written += size;
    }
    assert_eq!(client.answer().unwrap().json()["bodyBytes"], SIZE);
    let grown = memory_kib(mesh.pid(), "VmHWM").saturating_sub(before);
    assert!(grown < 2048, "{grown} KiB more than {before} KiB");
}

#[test]
fn a_download_that_nobody_reads_raises_memory_by_less_than_2_mib() {
    const SIZE: usize = 64 << 20;
    let upstream = Upstream::new();
    let mesh = mesh(&upstream);
    let before = warm_up(&mesh);
    let mut client = Connection::open(mesh.gateway);
    for how in ["fixed", "chunked"] {
        client.write(head(&mesh, &format!("GET /site/{how}/{SIZE} HTTP/1.1")) + "\r\n").unwrap();
        let answer = client.answer_head().unwrap();
        assert_eq!(answer.status, 200);
        // Another client is served meanwhile: the same thread waits for nobody.
        let mut other = Connection::open(mesh.gateway);
        other.write(head(&mesh, "GET /site/fixed/1000 HTTP/1.1") + "\r\n").unwrap();
        assert_eq!(other.answer().unwrap().body.len(), 1000);
        let mut read = 0;
        match how {
            "fixed" => read = client.exactly(SIZE).unwrap().len(),
            _ => {
                while let Some(chunk) = client.chunk().unwrap() {
                    read += chunk.len();
                }
                assert_eq!(client.fields().unwrap(), []);
            }
        }
        assert_eq!(read, SIZE, "{how}");
    }
    let grown = memory_kib(mesh.pid(), "VmHWM").saturating_sub(before);
    assert!(grown < 2048, "{grown} KiB more than {before} KiB");
}

/// With pages of 2 MiB, one that is touched would be all that is allowed here.
#[test]
fn memory_is_given_by_small_pages_whatever_the_machine_does_with_others() {
    let mesh = Mesh::new().service("vrf", 1).up();
    for pid in [mesh.pid(), mesh.pids("vrf")[0]] {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("THP_enabled:")).expect("Linux 5.0");
        assert_eq!(line.split_whitespace().last(), Some("0"), "{pid}");
    }
}
