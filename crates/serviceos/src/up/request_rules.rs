//! What requests must be, as the configuration and the files that it names have it. The files are read on a thread that may wait for
//! the disk, and only when one of them holds something else or others are named.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use configuration::{ContentRule, RequestSettings, RouteSettings, RuleFile, Settings};
use serde_json::Value;
use validation::{Operation, RequestRule, Schema, SchemaError, read_json};

use super::files::patiently;
use super::made::Broken;
use super::unusable::Unusable;

/// The largest file with schemas, in bytes: 4 MiB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// What was made, and of what.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestRules {
    /// By the key.
    known: HashMap<String, (Wanted, Arc<RequestRule>)>,
    /// The files that hold something else than when they were read.
    changed: BTreeSet<PathBuf>,
}

/// What a route asks, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    request: RequestSettings,
    /// An operation is for one method.
    methods: Vec<String>,
}

impl RequestRules {
    /// Those of these settings: the same as before where they are.
    ///
    /// # Errors
    /// Everything that cannot be used, and why.
    pub(crate) async fn of(&self, settings: &Settings, broken: Broken) -> Result<Self, Unusable> {
        let routes = settings.services.iter().flat_map(|service| &service.routes);
        let wanted: Vec<Wanted> = routes.filter_map(Wanted::of).collect();
        if wanted.iter().all(|wanted| self.known(wanted).is_some()) {
            return self.read(wanted, broken);
        }
        let before = self.clone();
        let reading = tokio::task::spawn_blocking(move || before.read(wanted, broken));
        let read = patiently(reading, |seconds| {
            tracing::error!(
                "the schemas of requests do not answer for {seconds} seconds; they are waited for"
            );
        });
        read.await.unwrap_or_else(|error| {
            Err(Unusable::one(0, format!("the schemas of requests could not be read: {error}")))
        })
    }

    /// What a route asks; nothing where it asks nothing.
    pub(crate) fn rule(&self, route: &RouteSettings) -> Option<Arc<RequestRule>> {
        let wanted = Wanted::of(route)?;
        self.made(&wanted)
    }

    /// What is written as before, and made of another file; by its key.
    pub(crate) fn renewed<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a str> {
        self.known.iter().filter_map(|(key, (wanted, rule))| {
            before.made(wanted).filter(|was| !Arc::ptr_eq(was, rule)).map(|_| key.as_str())
        })
    }

    /// These files hold something else: what is made of them is made anew, the next time.
    pub(crate) fn note_change(&mut self, files: &BTreeSet<PathBuf>) {
        let own = self.known.values().filter_map(|(wanted, _)| wanted.request.file());
        self.changed.extend(own.map(|file| file.path.clone()).filter(|path| files.contains(path)));
    }

    /// What was made of this before, unless its file is another now.
    fn known(&self, wanted: &Wanted) -> Option<Arc<RequestRule>> {
        let is_changed = wanted.request.file().is_some_and(|file| self.changed.contains(&file.path));
        if is_changed { None } else { self.made(wanted) }
    }

    fn made(&self, wanted: &Wanted) -> Option<Arc<RequestRule>> {
        let (known, rule) = self.known.get(&wanted.request.key)?;
        (known == wanted).then(|| Arc::clone(rule))
    }

    fn add(&mut self, wanted: Wanted, rule: Arc<RequestRule>) {
        self.known.insert(wanted.request.key.clone(), (wanted, rule));
    }

    fn read(&self, all: Vec<Wanted>, broken: Broken) -> Result<Self, Unusable> {
        let (mut rules, mut wrong, mut documents) = (Self::default(), Unusable::default(), HashMap::new());
        for wanted in all {
            if let Some(rule) = self.known(&wanted) {
                rules.add(wanted, rule);
                continue;
            }
            match make(&wanted, &mut documents) {
                Ok(rule) => rules.add(wanted, Arc::new(rule)),
                Err(message) => match self.made(&wanted).filter(|_| broken == Broken::Stays) {
                    Some(rule) => {
                        tracing::error!(
                            "a schema has changed and cannot be taken over: {message}; the one before stays in force"
                        );
                        rules.changed.extend(wanted.request.file().map(|file| file.path.clone()));
                        rules.add(wanted, rule);
                    }
                    None => {
                        wrong.note::<()>(Err(Unusable::one(wanted.request.line.0, message)));
                    }
                },
            }
        }
        wrong.or(rules)
    }
}

impl Wanted {
    fn of(route: &RouteSettings) -> Option<Self> {
        let request = route.request.clone()?;
        let methods = match request.rule {
            ContentRule::Operation { .. } => route.methods.clone(),
            _ => Vec::new(),
        };
        Some(Self { request, methods })
    }
}

/// What files hold, each read once.
type Documents = HashMap<PathBuf, Result<Arc<Value>, String>>;

fn make(wanted: &Wanted, documents: &mut Documents) -> Result<RequestRule, String> {
    let key = &wanted.request.key;
    let media_type = wanted.request.content_type.as_deref().unwrap_or("application/json");
    let mut document = |key: &str, file: &RuleFile| {
        let read = documents.entry(file.path.clone()).or_insert_with(|| read(&file.path).map(Arc::new));
        read.clone().map_err(|why| format!("{key}: {}: {why}", file.written))
    };
    match &wanted.request.rule {
        ContentRule::Any => Ok(RequestRule::of_schema(media_type, None)),
        ContentRule::Inline(schema) => match Schema::compile(schema) {
            Ok(schema) => Ok(RequestRule::of_schema(media_type, Some(schema))),
            Err(error) => Err(format!("{key}.schema: {error}")),
        },
        ContentRule::File(file) => {
            let value = document(&format!("{key}.schema"), file)?;
            let named = |error: SchemaError| format!("{key}.schema: {}: {error}", file.written);
            Ok(RequestRule::of_schema(media_type, Some(Schema::compile(&value).map_err(named)?)))
        }
        ContentRule::Operation { document: file, operation } => {
            let value = document(&format!("{key}.openapi.document"), file)?;
            let named = |error: SchemaError| format!("{key}.openapi: {}: {error}", file.written);
            let found = Operation::compile(&value, operation).map_err(named)?;
            let fits =
                |method: &String| *method == found.method || (found.method == "GET" && method == "HEAD");
            if wanted.methods.is_empty() || !wanted.methods.iter().all(fits) {
                return Err(format!(
                    "{key}.openapi: the operation {operation} is for {method}, so the route must be for that alone: write `methods: [{method}]`",
                    method = found.method
                ));
            }
            Ok(found.rule)
        }
    }
}

fn read(path: &Path) -> Result<Value, String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => format!("the file cannot be read: {error}"),
    };
    // Opening a pipe waits for whoever writes it.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err("this is no file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err("the file is larger than 4 MiB".to_owned());
    }
    if path.extension().is_some_and(|extension| extension == "json") {
        return read_json(&bytes).map_err(|error| error.to_string());
    }
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())?;
    configuration::any_document(&text)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn settings(folder: &Path, requests: &[&str]) -> Settings {
        let mut text =
            "services:\n  a:\n    endpoints: [\"http://127.0.0.1:1\"]\n    attestation: none\n    routes:\n"
                .to_owned();
        for (index, request) in requests.iter().enumerate() {
            text +=
                &format!("      - match: {{path: /{index}, methods: [POST]}}\n        request: {request}\n");
        }
        let cores = std::num::NonZeroUsize::MIN;
        configuration::parse(&text, "serviceos.yaml", folder, cores, configuration::any_config).unwrap()
    }

    fn rule(rules: &RequestRules, settings: &Settings, route: usize) -> Arc<RequestRule> {
        rules.rule(&settings.services[0].routes[route]).unwrap()
    }

    #[tokio::test]
    async fn files_are_read_again_only_when_they_are_others_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.json", r#"{"type": "object"}"#);
        write("b.yaml", "type: [object, 'null']\n");
        let settings =
            settings(folder.path(), &["{schema: a.json}", "{schema: b.yaml}", "{schema: {type: string}}"]);
        let mut made = RequestRules::default().of(&settings, Broken::Refuses).await.unwrap();
        std::fs::remove_file(folder.path().join("b.yaml")).unwrap();
        let again = made.of(&settings, Broken::Refuses).await.unwrap();
        assert!(
            (0..3).all(|route| Arc::ptr_eq(&rule(&made, &settings, route), &rule(&again, &settings, route)))
        );
        write("a.json", r#"{"type": "array"}"#);
        made.note_change(&[folder.path().join("a.json"), folder.path().join("other")].into());
        let newer = made.of(&settings, Broken::Refuses).await.unwrap();
        assert!(!Arc::ptr_eq(&rule(&made, &settings, 0), &rule(&newer, &settings, 0)));
        assert!(Arc::ptr_eq(&rule(&made, &settings, 1), &rule(&newer, &settings, 1)), "it was not looked at");
        write("a.json", r#"{"type": "arr"#);
        made.note_change(&[folder.path().join("a.json")].into());
        made.of(&settings, Broken::Refuses).await.unwrap_err();
        let stays = made.of(&settings, Broken::Stays).await.unwrap();
        assert!(Arc::ptr_eq(&rule(&made, &settings, 0), &rule(&stays, &settings, 0)));
        assert!(!stays.changed.is_empty(), "it is tried again the next time");
    }

    #[tokio::test]
    async fn everything_that_is_wrong_has_its_line_and_names_file_and_place() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("cut.json", r#"{"type": "#);
        write("twice.json", r#"{"type": "object", "type": "array"}"#);
        write("bad.yaml", "type: object\n\tproperties: 1\n");
        write("wrong.yaml", "type: object\nproperties: {a: {type: strnig}}\n");
        write("old.yaml", "openapi: 3.0.3\npaths: {}\n");
        let operation = "{operationId: list, parameters: [{name: a, in: cookie, schema: {}}]}";
        write(
            "api.yaml",
            &format!("openapi: 3.1.0\npaths: {{/a: {{get: {{operationId: get}}, post: {operation}}}}}\n"),
        );
        File::create(folder.path().join("huge.yaml")).unwrap().set_len(5 << 20).unwrap();
        let requests = [
            "{schema: none.json}",
            "{schema: .}",
            "{schema: cut.json}",
            "{schema: twice.json}",
            "{schema: bad.yaml}",
            "{schema: wrong.yaml}",
            "{schema: huge.yaml}",
            "{schema: {type: strnig}}",
            "{schema: {$ref: 'other.json#/a'}}",
            "{openapi: {document: old.yaml, operation: get}}",
            "{openapi: {document: api.yaml, operation: gett}}",
            "{openapi: {document: api.yaml, operation: get}}",
            "{openapi: {document: api.yaml, operation: list}}",
        ];
        let settings = settings(folder.path(), &requests);
        let refused = RequestRules::default().of(&settings, Broken::Refuses).await.unwrap_err();
        expect![[r#"
            serviceos.yaml:7: services.a.routes[0].request.schema: none.json: there is no such file
            serviceos.yaml:9: services.a.routes[1].request.schema: .: this is no file
            serviceos.yaml:11: services.a.routes[2].request.schema: cut.json: the JSON ends too early (at byte 9)
            serviceos.yaml:13: services.a.routes[3].request.schema: twice.json: an object has two members of the same name (at byte 19)
            serviceos.yaml:15: services.a.routes[4].request.schema: bad.yaml: line 1: while scanning a plain scalar, found a tab
            serviceos.yaml:17: services.a.routes[5].request.schema: wrong.yaml: /properties/a/type: "strnig" is not valid under any of the schemas listed in the 'anyOf' keyword
            serviceos.yaml:19: services.a.routes[6].request.schema: huge.yaml: the file is larger than 4 MiB
            serviceos.yaml:21: services.a.routes[7].request.schema: /type: "strnig" is not valid under any of the schemas listed in the 'anyOf' keyword
            serviceos.yaml:23: services.a.routes[8].request.schema: /$ref: the reference other.json#/a leads to nothing in this document, and nothing is fetched
            serviceos.yaml:25: services.a.routes[9].request.openapi: old.yaml: /openapi: OpenAPI 3.0.3 is not supported, only 3.1
            serviceos.yaml:27: services.a.routes[10].request.openapi: api.yaml: /paths: there is no operation gett, but get, list
            serviceos.yaml:29: services.a.routes[11].request.openapi: the operation get is for GET, so the route must be for that alone: write `methods: [GET]`
            serviceos.yaml:31: services.a.routes[12].request.openapi: api.yaml: /paths/~1a/post/parameters/0/in: parameters in cookie are not supported"#]].assert_eq(&refused.in_file("serviceos.yaml").to_string());
    }
}
