//! The servers of one service, and who of them gets what.

use std::net::SocketAddr;

use testkit::{Client, Mesh, Request, Running, Upstream, eventually};

/// A route that anybody may call.
pub(crate) const PUBLIC: &str = "routes: [{match: {path: '/site/{*rest}'}, stripPrefix: true, public: true}]";

/// The servers behind the service `site` of a mesh.
pub(crate) struct Fleet {
    pub(crate) mesh: Running,
    pub(crate) servers: Vec<Upstream>,
}

impl Fleet {
    /// One server for each entry, which is what stands beside its address in the file; `keys` are those of the service.
    pub(crate) fn up(entries: &[&str], keys: &str) -> Self {
        Self::behind(Mesh::new(), entries, keys)
    }

    /// The same in a mesh that has been begun.
    pub(crate) fn behind(mesh: Mesh, entries: &[&str], keys: &str) -> Self {
        let servers: Vec<_> = entries.iter().map(|_| Upstream::new()).collect();
        let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
        let mesh = mesh.yaml(&service(&addresses, entries, keys)).up();
        Self { mesh, servers }
    }

    /// A connection of its own.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.mesh.gateway).unwrap()
    }

    /// Sends a request that must be answered with 200; the place of the server that got it.
    pub(crate) fn server_of(&self, client: &mut Client, request: &Request) -> usize {
        let before = self.counts();
        let answer = client.send(request).expect("the connection holds");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let more = |place: usize| self.servers[place].count() > before[place];
        let got: Vec<_> = (0..before.len()).filter(|place| more(*place)).collect();
        assert_eq!(got.len(), 1, "one server gets it, and once");
        got[0]
    }

    /// The same for so many requests over one connection.
    pub(crate) fn servers_of(&self, requests: usize, request: &Request) -> Vec<usize> {
        let mut client = self.client();
        (0..requests).map(|_| self.server_of(&mut client, request)).collect()
    }

    /// How many of so many requests over one connection each server gets.
    pub(crate) fn shares_of(&self, requests: usize, request: &Request) -> Vec<usize> {
        let got = self.servers_of(requests, request);
        (0..self.servers.len()).map(|place| got.iter().filter(|of| **of == place).count()).collect()
    }

    /// Makes a server pass or fail its checks, and waits for the verdict.
    pub(crate) fn set_healthy(&self, place: usize, healthy: bool) {
        self.servers[place].set_healthy(healthy);
        let verdict = if healthy { "healthy" } else { "unhealthy" };
        eventually("the verdict", || (self.mesh.replicas("site")[place]["health"] == verdict).then_some(()));
    }

    /// Adds a server, which the file then names behind the others.
    pub(crate) fn add_server(&mut self, keys: &str) {
        self.servers.push(Upstream::new());
        let all: Vec<_> = (0..self.servers.len()).map(|place| (place, "")).collect();
        self.reload(&all, keys);
        self.mesh.until_selectable();
    }

    /// Puts a file in place that names these servers in this order, each with what stands beside its address, and waits
    /// until it is in force.
    pub(crate) fn reload(&self, servers: &[(usize, &str)], keys: &str) {
        let (places, entries): (Vec<usize>, Vec<&str>) = servers.iter().copied().unzip();
        let addresses: Vec<_> = places.into_iter().map(|place| self.servers[place].address).collect();
        let text = format!("services:\n{}", service(&addresses, &entries, keys));
        let file = |name: &str| self.mesh.folder().join(name);
        let seen = self.mesh.log().len();
        std::fs::write(file("new.yaml"), text).unwrap();
        std::fs::rename(file("new.yaml"), file("serviceos.yaml")).unwrap();
        self.mesh.until_logged(seen, "the configuration was applied");
    }

    fn counts(&self) -> Vec<usize> {
        self.servers.iter().map(Upstream::count).collect()
    }
}

/// The lines of the service `site`, to stand under `services:`.
fn service(addresses: &[SocketAddr], entries: &[&str], keys: &str) -> String {
    let endpoint = |(address, entry): (&SocketAddr, &&str)| format!("{{url: 'http://{address}'{entry}}}");
    let set: Vec<_> = addresses.iter().zip(entries).map(endpoint).collect();
    let check = "healthCheck: {interval: 200ms, timeout: 200ms}";
    format!("    site: {{endpointSet: [{}], attestation: none, {check}, {keys}}}\n", set.join(", "))
}

/// A request that any of the servers answers at once.
pub(crate) fn get() -> Request {
    Request::new("GET", "/site/status/200")
}
