use std::os::unix::fs::symlink;

use expect_test::{Expect, expect};

use super::*;

/// A folder with a configuration under TLS, and the source that was opened there.
struct Bench {
    folder: tempfile::TempDir,
    source: Source,
}

fn tls(certificate: &str, more: &str) -> String {
    let pair = format!("{{certificate: {certificate}.pem, key: {certificate}.key}}");
    format!("gateway: {{tls: {{certificates: [{pair}]}}{more}}}\nservices: {{vrf: }}\n")
}

impl Bench {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serviceos.yaml");
        std::fs::write(&path, text).unwrap();
        let (source, _document) = Source::open(path, Overrides::default()).unwrap();
        Self { folder, source }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn check(&mut self, expected: Expect) {
        let Found { document, others, .. } = self.source.look();
        let settings = match document {
            None => "as before".to_owned(),
            Some(Ok(document)) => format!("valid, {} workers", document.settings.gateway.workers),
            Some(Err(report)) => report.lines().next().unwrap_or_default().to_owned(),
        };
        let others: Vec<_> = others.iter().filter_map(|file| file.file_name()?.to_str()).collect();
        let said = format!("{settings}; {others:?}").replace(&self.path("").display().to_string(), "");
        expected.assert_eq(&said);
    }
}

#[test]
fn what_is_wrong_with_the_file_is_found_once_and_what_comes_back_is_found_too() {
    let mut bench = Bench::new(&tls("a", ", workers: 1"));
    let file = bench.path("serviceos.yaml");
    bench.check(expect!["as before; []"]);
    std::fs::remove_file(&file).unwrap();
    bench.check(expect!["serviceos.yaml: there is no such file; []"]);
    bench.check(expect!["as before; []"]);
    std::fs::create_dir(&file).unwrap();
    bench.check(expect!["serviceos.yaml: this is a directory; []"]);
    bench.check(expect!["as before; []"]);
    std::fs::remove_dir(&file).unwrap();
    symlink("serviceos.yaml", &file).unwrap();
    bench.check(expect![
        "serviceos.yaml: the file cannot be read: Too many levels of symbolic links (os error 40); []"
    ]);
    bench.check(expect!["as before; []"]);
    std::fs::remove_file(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR).unwrap();
    bench.check(expect!["serviceos.yaml: this is no file any more; []"]);
    std::fs::remove_file(&file).unwrap();
    bench.write("serviceos.yaml", &"#".repeat(2 << 20));
    bench.check(expect!["serviceos.yaml: the file is larger than 1 MiB; []"]);
    bench.write("serviceos.yaml", &tls("a", ", workers: 1"));
    bench.check(expect!["valid, 1 workers; []"]);
    bench.check(expect!["as before; []"]);
}

#[test]
fn the_files_of_settings_that_were_not_taken_over_are_looked_at_as_long_as_they_are_wanted() {
    let mut bench = Bench::new(&tls("a", ", workers: 1"));
    bench.write("a.pem", "a");
    bench.check(expect![[r#"as before; ["a.pem"]"#]]);
    bench.write("serviceos.yaml", &tls("b", ", workers: 1"));
    let found = bench.source.look();
    bench.source.keep(named_by(found.document.iter().flatten().map(|document| &document.settings)));
    bench.write("a.pem", "no longer");
    bench.write("b.pem", "b");
    bench.write("b.key", "b");
    bench.check(expect![[r#"as before; ["b.key", "b.pem"]"#]]);
    bench.source.keep(BTreeSet::new());
    bench.write("b.pem", "no longer");
    bench.check(expect!["as before; []"]);
}

#[test]
fn the_number_of_workers_stays_what_it_was_at_the_start() {
    let mut bench = Bench::new(&tls("a", ""));
    bench.source.reader.cores = NonZeroUsize::new(77).unwrap();
    bench.write("serviceos.yaml", &tls("b", ""));
    bench.check(expect!["valid, 77 workers; []"]);
}

#[test]
fn a_glance_finds_what_looks_otherwise_once_it_is_left_alone() {
    let mut bench = Bench::new(&tls("a", ""));
    bench.check(expect!["as before; []"]);
    assert_eq!([bench.source.glance(), bench.source.glance()], [false, false]);
    for text in ["1", "22"] {
        bench.write("a.key", text);
        assert!(!bench.source.glance(), "it may go on being written");
    }
    assert!(bench.source.glance());
    bench.check(expect![[r#"as before; ["a.key"]"#]]);
    assert!(!bench.source.glance());
}

#[test]
fn a_pipe_is_read_once_and_followed_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::write(pipe, tls("a", "")).unwrap()
    });
    let (mut source, _document) = Source::open(pipe.clone(), Overrides::default()).unwrap();
    writer.join().unwrap();
    assert!(!source.is_followed() && !source.paths().contains(&pipe));
    assert!(source.look().document.is_none());
    std::fs::write(folder.path().join("a.pem"), "a").unwrap();
    assert_eq!(source.look().others.len(), 1, "its certificates are files");
}

#[test]
fn what_has_no_end_is_not_read_to_it() {
    let report = Source::open("/dev/zero".into(), Overrides::default()).unwrap_err().to_string();
    assert_eq!(report, "/dev/zero: the file is larger than 1 MiB");
}
