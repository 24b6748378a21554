//! What is in the way is told in one message with exit code 1, and nothing is half-started.

use std::net::TcpListener;

use testkit::{Finished, Mesh, processes_of};

fn refused(mesh: &Mesh, expected: &str) -> Finished {
    let finished = mesh.up_and_fail();
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.err.contains(expected), "{}", finished.err);
    assert_eq!(finished.err.lines().count(), 1, "one clear message: {}", finished.err);
    assert_eq!(processes_of(mesh.folder()), [0; 0], "something was left running");
    finished
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (gateway, admin) in
        [(address.to_string(), "127.0.0.1:0".to_owned()), ("127.0.0.1:0".to_owned(), address.to_string())]
    {
        let mesh = Mesh::new().service("vrf", 2).arguments(&[
            "--gateway",
            &gateway,
            "--admin",
            &admin,
            "--mesh=127.0.0.1:0",
        ]);
        refused(&mesh, &format!("{address} is in use by another process"));
    }
}

#[test]
fn a_second_up_on_the_same_data_directory_is_told_and_the_first_goes_on() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let second = mesh.run(&["up", "--gateway=127.0.0.1:0", "--admin=127.0.0.1:0", "--mesh=127.0.0.1:0"]);
    assert_eq!(second.code, 1);
    assert!(
        second.err.contains(&format!("another serviceos (pid {}) runs on the data directory", mesh.pid())),
        "{}",
        second.err
    );
    assert_eq!(second.err.lines().count(), 1, "{}", second.err);
    assert_eq!(mesh.get("/v1/random/keys").status, 200);
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let mesh = Mesh::new().service("vrf", 1);
    std::fs::write(mesh.folder().join(".serviceos"), "a file in its place").unwrap();
    refused(&mesh, "failed to use the data directory");
}

#[test]
fn a_store_that_is_none_is_left_as_it_was() {
    let mesh = Mesh::new().service("vrf", 1);
    let store = mesh.folder().join(".serviceos/store.redb");
    std::fs::create_dir(mesh.folder().join(".serviceos")).unwrap();
    std::fs::write(&store, "precious").unwrap();
    refused(&mesh, "store.redb cannot be opened");
    assert_eq!(std::fs::read(&store).unwrap(), b"precious");
}

#[test]
fn a_lost_store_is_not_replaced() {
    let mut mesh = Mesh::new().service("vrf", 1).up();
    assert_eq!(mesh.run(&["down"]).code, 0);
    assert_eq!(mesh.wait().code, 0);
    let store = mesh.folder().join(".serviceos/store.redb");
    std::fs::remove_file(&store).unwrap();
    let again = mesh.run(&["up", "--gateway=127.0.0.1:0", "--admin=127.0.0.1:0", "--mesh=127.0.0.1:0"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("store.redb is not: restore the store from a backup"), "{}", again.err);
    assert!(!store.exists());
}

#[test]
fn a_lost_master_key_is_not_replaced() {
    let mut mesh = Mesh::new().service("vrf", 1).up();
    assert_eq!(mesh.run(&["down"]).code, 0);
    assert_eq!(mesh.wait().code, 0);
    let key = mesh.folder().join(".serviceos/master.key");
    std::fs::remove_file(&key).unwrap();
    let again = mesh.run(&["up", "--gateway=127.0.0.1:0", "--admin=127.0.0.1:0", "--mesh=127.0.0.1:0"]);
    assert_eq!(again.code, 1);
    assert!(
        again.err.contains("the master key") && again.err.contains("is missing; restore it"),
        "{}",
        again.err
    );
    assert!(!key.exists());
}
