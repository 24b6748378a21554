//! What a program that knows nothing of the mesh is given, and what it can reach.

use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testkit::{Mesh, Running, has_program};

/// Shows what it was given: `/given`, the headers of the request: `/headers`, and what another service answers: `/call/NAME`.
const SERVER: &str = r#"
import http.client, http.server, json, os, socket

class Mesh(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ['SERVICEOS_MESH'])

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        if self.path == '/given':
            secrets = os.environ['SERVICEOS_SECRETS_DIR']
            files = {name: open(os.path.join(secrets, name), 'rb').read().hex() for name in os.listdir(secrets)}
            config = json.load(open(os.environ['SERVICEOS_CONFIG']))
            self.answer({'secrets': files, 'config': config, 'environment': dict(os.environ)})
        elif self.path == '/headers':
            self.answer({name.lower(): value for name, value in self.headers.items()})
        elif self.path.startswith('/call/'):
            call = Mesh(self.path[6:])
            call.request('GET', '/v1/random/keys')
            answered = call.getresponse()
            self.answer({'status': answered.status, 'body': answered.read().decode()})
        else:
            self.answer({})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['SERVICEOS_PORT'])), Handler).serve_forever()
"#;

/// A mesh with the command as `app`, which `vrf` allows to call it and `dice` does not.
fn up() -> Option<Running> {
    if !has_program("python3") {
        return None;
    }
    let mesh = Mesh::new().yaml(
        "    app: {command: [python3, server.py], env: {GREETING: \"hello $SERVICEOS_PORT\"}, healthCheck: {path: /}, config: {depth: 3}, secrets: [token]}\n    vrf: {replicas: 1, allow: [app]}\n    dice: {builtin: vrf, replicas: 1}\n",
    );
    std::fs::write(mesh.folder().join("server.py"), SERVER).unwrap();
    let yaml = "secrets: {token: {generate: {type: random}}}\n";
    Some(mesh.head(yaml).up())
}

#[test]
fn a_command_is_given_its_secrets_and_configuration_as_files_and_nothing_of_it_in_its_environment() {
    let Some(mesh) = up() else { return };
    let given = mesh.get("/app/given").json();
    let token = given["secrets"]["token"].as_str().unwrap().to_owned();
    assert_eq!((token.len(), &given["config"]), (64, &json!({"depth": 3})));
    let environment = given["environment"].to_string();
    assert!(!environment.contains(&token), "{environment}");
    let port = given["environment"]["SERVICEOS_PORT"].as_str().unwrap();
    assert_eq!(given["environment"]["GREETING"], format!("hello {port}"));
    assert!(given["environment"].get("HOME").is_none(), "{environment}");
}

#[test]
fn a_program_that_was_built_again_is_another_version_and_another_configuration_of_it_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("server");
    let text = |more: &str| format!("#!/usr/bin/env python3\n{SERVER}\n# {more}\n");
    let write = |more: &str| {
        std::fs::write(&program, text(more)).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("one");
    let service = |depth: usize| {
        let path = "env: {PATH: /usr/bin:/bin}, healthCheck: {path: /}";
        format!("    app: {{command: [\"{}\"], {path}, config: {{depth: {depth}}}}}\n", program.display())
    };
    if !has_program("python3") {
        return;
    }
    let version = |mesh: &Running| mesh.replicas("app")[0]["versionId"].as_str().unwrap().to_owned();
    let mesh = Mesh::new().yaml(&service(1)).up();
    let first = version(&mesh);
    assert!(first.starts_with("1.0.0-"), "{first}");
    assert_eq!(mesh.run(&["down"]).code, 0);
    let mesh = mesh.up_again();
    assert_eq!(version(&mesh), first, "a new start of the same is the same");
    assert_eq!(mesh.run(&["down"]).code, 0);
    write("two");
    let mesh = mesh.up_again();
    let second = version(&mesh);
    assert_ne!(second, first);
    let file = mesh.folder().join("serviceos.yaml");
    let changed = std::fs::read_to_string(&file).unwrap().replace(&service(1), &service(2));
    let seen = mesh.log().len();
    std::fs::write(&file, changed).unwrap();
    mesh.until_logged(seen, "the configuration was applied");
    assert_eq!(version(&mesh), second);
}

#[test]
fn a_command_calls_the_services_that_allow_it_and_no_other() {
    let Some(mesh) = up() else { return };
    let allowed = mesh.get("/app/call/vrf").json();
    assert_eq!(allowed["status"], 200, "{allowed}");
    assert!(allowed["body"].as_str().unwrap().contains("publicKey"), "{allowed}");
    let refused = mesh.get("/app/call/dice").json();
    assert_eq!(refused["status"], 403, "{refused}");
    assert!(refused["body"].as_str().unwrap().contains("MESH_NOT_ALLOWED"), "{refused}");
}

#[test]
fn a_command_is_told_who_calls_in_words_that_only_the_gateway_can_have_signed() {
    let Some(mesh) = up() else { return };
    let request = testkit::Request::new("GET", "/app/headers").key(&mesh.key);
    let headers = request.header("x-serviceos-caller", "forged").send(mesh.gateway).json();
    let token = headers["x-serviceos-caller"].as_str().expect("a token").to_owned();
    let part = |number: usize| -> Value {
        let part = token.split('.').nth(number).expect("three parts");
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!((part(0)["alg"].as_str(), part(1)["aud"].as_str()), (Some("ES256"), Some("app")));
    let (claims, id) = (part(1), &headers["x-request-id"]);
    assert_eq!((&claims["jti"], claims["exp"].as_u64()), (id, claims["iat"].as_u64().map(|iat| iat + 30)));
    assert!(claims["iss"].as_str().unwrap().starts_with("spiffe://serviceos.dev.invalid/gateway/"));
}
