//! Another configuration while the gateway serves: nobody notices but those whom it is about.

use std::os::unix::fs::symlink;
use std::path::Path;
use testkit::{Connection, Mesh, Request, Running, Upstream, eventually};

use crate::load::under_load;

const APPLIED: &str = "the configuration was applied";

/// A service of these servers, open to anybody, with more keys.
fn service(name: &str, upstreams: &[&Upstream], more: &str) -> String {
    let urls: Vec<String> =
        upstreams.iter().map(|upstream| format!("'http://{}'", upstream.address)).collect();
    let route = format!("{{match: {{path: '/{name}/{{*rest}}'}}, stripPrefix: true, public: true}}");
    format!(
        "  {name}: {{endpoints: [{}], attestation: none, healthCheck: {{interval: 1s, timeout: 1s}}, routes: [{route}]{more}}}\n",
        urls.join(", ")
    )
}

/// Puts a file in its place in one step.
fn put(folder: &Path, text: &str) {
    std::fs::write(folder.join("new.yaml"), text).unwrap();
    std::fs::rename(folder.join("new.yaml"), folder.join("serviceos.yaml")).unwrap();
}

/// Puts another file in place, and waits until `up` says this about it.
fn change(mesh: &Running, text: &str, said: &str) -> String {
    let seen = mesh.log().len();
    put(mesh.folder(), text);
    mesh.until_logged(seen, said)[seen..].to_owned()
}

fn status_of(mesh: &Running, path: &str) -> u16 {
    Request::new("GET", path).send(mesh.gateway).status
}

#[test]
fn a_hundred_reloads_under_load_lose_no_request_and_no_connection_and_each_is_a_revision() {
    let upstreams = [Upstream::new(), Upstream::new(), Upstream::new()];
    let [one, two, three] = &upstreams;
    let mesh = Mesh::new();
    let file = |round: u64| {
        let keys = [
            "",
            ", loadBalancing: {policy: round-robin}",
            ", retry: {attempts: 2}",
            ", circuit: {requests: 500}",
        ];
        let more = keys[usize::try_from(round).unwrap() % keys.len()];
        let site = match round % 3 {
            0 => service("site", &[one, two], more),
            1 => service("site", &[one, two, three], more),
            _ => service("site", &[three, two], more),
        };
        let extra = if round.is_multiple_of(2) { String::new() } else { service("extra", &[three], "") };
        format!("gateway: {{limits: {{headers: {}}}}}\nservices:\n{site}{extra}", 50 + round)
    };
    mesh.write(&file(0));
    let mesh = mesh.up();
    under_load(&mesh, "/site/fixed/10", |load| {
        for round in 1..=100 {
            change(&mesh, &file(round), APPLIED);
            load.until_more(4);
            let extra = status_of(&mesh, "/extra/fixed/1");
            if round.is_multiple_of(2) {
                assert_eq!(extra, 404, "round {round}");
            } else {
                eventually("the added service", || (status_of(&mesh, "/extra/fixed/1") == 200).then_some(()));
            }
        }
    });
    assert!(upstreams.iter().all(|upstream| upstream.count() > 0), "every server had its part");
    let metrics = Request::new("GET", "/metrics").send(mesh.admin).text();
    assert!(metrics.contains("\nserviceos_config_revision 101\n"), "{metrics}");
}

#[test]
fn routes_limits_and_endpoints_of_the_new_file_hold_at_once() {
    let (one, two) = (Upstream::new(), Upstream::new());
    let mesh = Mesh::new();
    let file = |limit: &str, upstream: &Upstream, name: &str| {
        format!("gateway: {{limits: {{bodyBytes: {limit}}}}}\nservices:\n{}", service(name, &[upstream], ""))
    };
    mesh.write(&file("8B", &one, "site"));
    let mesh =
        mesh.up_when("the server", |status| status["services"][0]["replicas"][0]["selectable"] == true);
    let mut client = Connection::open(mesh.gateway);
    let mut post = |name: &str, size: usize| {
        let body = "b".repeat(size);
        client
            .write(format!("POST /{name}/echo HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n{body}"))
            .unwrap();
        client.answer().unwrap().status
    };
    assert_eq!(post("site", 8), 200);
    change(&mesh, &file("16B", &one, "site"), APPLIED);
    assert_eq!(post("site", 16), 200, "the same connection, the new limit");
    change(&mesh, &file("16B", &two, "site"), APPLIED);
    eventually("the other server", || (status_of(&mesh, "/site/echo") == 200).then_some(()));
    let before = one.count();
    assert_eq!((post("site", 1), one.count()), (200, before), "nothing goes to a server that was taken out");
    change(&mesh, &file("16B", &two, "place"), APPLIED);
    assert_eq!(post("site", 1), 404);
    eventually("the renamed service", || (status_of(&mesh, "/place/echo") == 200).then_some(()));
    let metrics = Request::new("GET", "/metrics").send(mesh.admin).text();
    assert!(metrics.contains("service=\"place\"") && !metrics.contains("service=\"site\""), "{metrics}");
}

#[test]
fn the_first_request_of_a_connection_that_idled_through_a_reload_has_the_new_limits() {
    let upstream = Upstream::new();
    let mesh = Mesh::new();
    let file = |limits: &str| {
        format!("gateway: {{limits: {{{limits}}}}}\nservices:\n{}", service("site", &[&upstream], ""))
    };
    mesh.write(&file("headers: 3"));
    let mesh = mesh.up();
    let mut client = Connection::open(mesh.gateway);
    let mut get = |fields: usize| {
        client
            .write(format!("GET /site/fixed/3 HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(fields)))
            .unwrap();
        client.answer().unwrap().status
    };
    assert_eq!(get(2), 200);
    change(&mesh, &file("headers: 9"), APPLIED);
    assert_eq!(get(8), 200);
    change(&mesh, &file("headers: 3"), APPLIED);
    assert_eq!(get(3), 431);
}

#[test]
fn a_request_that_has_begun_ends_by_the_file_that_it_began_with() {
    let (one, two) = (Upstream::new(), Upstream::new());
    let mesh = Mesh::new();
    mesh.write(&format!("services:\n{}", service("site", &[&one], "")));
    let mesh = mesh.up();
    let mut client = Connection::open(mesh.gateway);
    client.write("GET /site/command HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(client.answer_head().unwrap().status, 200);
    // Neither the route nor the server is left.
    change(&mesh, &format!("services:\n{}", service("other", &[&two], "")), APPLIED);
    for word in ["still", "there"] {
        one.say(word);
        assert_eq!(client.chunk().unwrap().as_deref(), Some(word.as_bytes()));
    }
    one.end();
    assert_eq!(client.chunk().unwrap(), None);
    assert_eq!(client.fields().unwrap(), []);
    client.write("GET /site/command HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(client.answer().unwrap().status, 404);
}

#[test]
fn a_file_that_is_swapped_through_links_is_taken_over_under_load() {
    let (one, two) = (Upstream::new(), Upstream::new());
    let mesh = Mesh::new();
    // As a mounted ConfigMap has it: the file is a link through a folder that is a link.
    let folder = mesh.folder().to_owned();
    let version = |name: &str, text: &str| {
        std::fs::create_dir(folder.join(name)).unwrap();
        std::fs::write(folder.join(name).join("serviceos.yaml"), text).unwrap();
        symlink(name, folder.join("..new")).unwrap();
        std::fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    };
    let file = |round: usize| {
        let upstreams: &[&Upstream] = if round.is_multiple_of(2) { &[&one] } else { &[&one, &two] };
        format!("services:\n{}", service("site", upstreams, ""))
    };
    version("..0", &file(0));
    symlink("..data/serviceos.yaml", folder.join("serviceos.yaml")).unwrap();
    let mesh = mesh.up();
    under_load(&mesh, "/site/fixed/10", |_| {
        for round in 1..=5 {
            let seen = mesh.log().len();
            version(&format!("..{round}"), &file(round));
            mesh.until_logged(seen, APPLIED);
            std::fs::remove_dir_all(folder.join(format!("..{}", round - 1))).unwrap();
            assert_eq!(mesh.replicas("site").len(), 1 + round % 2);
        }
    });
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_its_line_is_named() {
    let one = Upstream::new();
    let mesh = Mesh::new();
    let good = format!("services:\n{}", service("site", &[&one], ""));
    mesh.write(&good);
    let mesh = mesh.up();
    let bad =
        format!("gateway:\n  limits: {{bodyBytes: 1KiB}}\n  limitz: 1\n{}", good.replace("/site/", "/gone/"));
    let said = change(&mesh, &bad, "the configuration before stays in force");
    assert!(said.contains("limitz") && said.contains("serviceos.yaml:3"), "{said}");
    let said = change(&mesh, "services: [", "the configuration before stays in force");
    assert!(said.contains("serviceos.yaml:1"), "{said}");
    assert_eq!(status_of(&mesh, "/site/fixed/1"), 200);
    assert_eq!(status_of(&mesh, "/gone/fixed/1"), 404);
    // A certificate that is not there is found only when the file is applied, and that is all or nothing, too.
    let again = good.replace("/site/", "/next/");
    change(&mesh, &again, APPLIED);
    assert_eq!(status_of(&mesh, "/next/fixed/1"), 200);
}

#[test]
fn a_change_that_needs_a_new_start_is_refused_whole_and_named() {
    let one = Upstream::new();
    let mesh = Mesh::new();
    mesh.write(&format!("services:\n  vrf: {{replicas: 1}}\n{}", service("site", &[&one], "")));
    let mesh = mesh.up();
    let pids = mesh.pids("vrf");
    let site = service("site", &[&one], "").replace("/site/", "/moved/");
    let file = format!("gateway: {{workers: 1}}\nservices:\n  vrf: {{replicas: 2, allow: [vrf]}}\n{site}");
    let said = change(&mesh, &file, "cannot be applied");
    assert!(
        said.contains("gateway.workers, services.vrf.allow can be changed only by a new start"),
        "{said}"
    );
    assert_eq!((status_of(&mesh, "/site/fixed/1"), status_of(&mesh, "/moved/fixed/1")), (200, 404));
    change(&mesh, &format!("services:\n  vrf: {{replicas: 1}}\n{site}"), APPLIED);
    assert_eq!((status_of(&mesh, "/site/fixed/1"), status_of(&mesh, "/moved/fixed/1")), (404, 200));
    assert_eq!(mesh.pids("vrf"), pids, "no process was touched");
}
