//! Schemas in files: what is wrong with one stops a start and changes nothing while everything runs.

use serde_json::json;
use testkit::{Request, Running, Upstream, eventually};

use super::route;

fn write(mesh: &Running, name: &str, text: &str) {
    let new = mesh.folder().join("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, mesh.folder().join(name)).unwrap();
}

fn status(mesh: &Running, body: &serde_json::Value) -> u16 {
    Request::new("POST", "/site/mirror").key(&mesh.key).json(body).send(mesh.gateway).status
}

#[test]
fn a_changed_schema_is_taken_over_by_itself_and_a_broken_one_changes_nothing() {
    let upstream = Upstream::new();
    let mesh = route(&upstream, "http1", "{schema: a.json}", "");
    std::fs::write(mesh.folder().join("a.json"), r#"{"type": "string"}"#).unwrap();
    let mesh = mesh.up();
    let (text, number) = (json!("text"), json!(5));
    assert_eq!((status(&mesh, &text), status(&mesh, &number)), (200, 422));
    write(&mesh, "a.json", r#"{"type": "integer"}"#);
    eventually("the other schema", || (status(&mesh, &number) == 200).then_some(()));
    assert_eq!(status(&mesh, &text), 422);
    assert!(mesh.log().contains("a schema has changed and was taken over"), "{}", mesh.log());

    write(&mesh, "a.json", r#"{"type": "intger"}"#);
    let said = "a schema has changed and cannot be taken over: services.site.routes[0].request.schema: a.json: /type: ";
    mesh.until_logged(0, said);
    assert_eq!((status(&mesh, &text), status(&mesh, &number)), (422, 200), "the one before stays");
    let validated = mesh.run(&["config", "validate"]);
    assert_eq!(validated.code, 2, "{validated:?}");
    assert!(validated.err.contains(".request.schema: a.json: /type: "), "{validated:?}");
    // Neither is another configuration taken over that names it.
    let file = std::fs::read_to_string(mesh.folder().join("serviceos.yaml")).unwrap();
    write(&mesh, "serviceos.yaml", &file.replace("stripPrefix: true", "stripPrefix: true, timeout: 9s"));
    mesh.until_logged(0, "serviceos.yaml has changed and cannot be applied: ");
    write(&mesh, "a.json", "true");
    eventually("the mended schema", || (status(&mesh, &text) == 200).then_some(()));
    mesh.until_logged(0, "the configuration was applied");
}

#[test]
fn a_file_that_cannot_be_used_stops_the_start_and_is_named_with_its_place() {
    let upstream = Upstream::new();
    let mesh = route(&upstream, "http1", "{schema: schemas/a.json}", "");
    let failed = mesh.up_and_fail();
    assert_eq!(failed.code, 2, "{failed:?}");
    assert!(
        failed.err.contains(".routes[0].request.schema: schemas/a.json: there is no such file"),
        "{failed:?}"
    );
    let mesh = route(&upstream, "http1", "{schema: {$ref: '#/$defs/none'}}", "");
    let failed = mesh.up_and_fail();
    assert_eq!(failed.code, 2, "{failed:?}");
    assert!(failed.err.contains("/$ref: the reference #/$defs/none leads to nothing"), "{failed:?}");
}
