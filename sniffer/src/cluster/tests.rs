//! Reading objects from files, and reading them again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Change, Error, Taken, Watcher, documents, read};

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x}\n";

fn taken(text: &str) -> Taken {
    let mut taken = Taken::default();
    taken.text(Path::new("all.yaml"), text);
    taken
}

fn problems(text: &str) -> Vec<String> {
    taken(text).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn documents_lists_json_and_comments_are_all_the_same() {
    let forms = [
        format!("# first\n---\n{POD}---\n# nothing\n---\n{}", POD.replace("name: a", "name: b")),
        format!("%YAML 1.2\n---\n{POD}...\n---\n{}", POD.replace("name: a", "name: b")),
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x}}\n\
         - {apiVersion: v1, kind: Pod, metadata: {name: b, namespace: x}}\n"
            .into(),
        "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a, namespace: x}\n- metadata: {name: b, namespace: x}\n"
            .into(),
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"x"}}
           {"apiVersion":"v1","kind":"Pod","metadata":{"name":"b","namespace":"x"}}"#
            .into(),
    ];
    for form in forms {
        let taken = taken(&form);
        assert_eq!((taken.objects.len(), taken.problems.len()), (2, 0), "{form}\n{:?}", taken.problems);
    }
}

#[test]
fn the_place_of_an_object_is_the_line_that_it_begins_at() {
    let text = format!("# about\n\n{POD}---\n{POD}");
    let lines: Vec<u64> = documents(&text).iter().map(|d| d.line).collect();
    assert_eq!(lines, [3, 6]);
}

#[test]
fn what_is_no_yaml_is_told_with_its_line_and_loses_nothing_else() {
    let text = format!("{POD}---\nmetadata:\n  name: [a\nkind: Pod\n---\n{POD}");
    let taken = taken(&text);
    assert_eq!(taken.objects.len(), 2);
    let told = taken.problems[0].to_string();
    assert!(told.starts_with("all.yaml:") && told.contains("is no YAML"), "{told}");
    let line: u64 = told.split(':').nth(1).and_then(|n| n.parse().ok()).expect("a line");
    assert!((4..=8).contains(&line), "{told}");
}

#[test]
fn a_field_of_the_wrong_shape_is_told_with_its_path() {
    let told = problems(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\n\
         spec:\n  egress:\n  - to:\n    - podSelector: {matchLabels: {a: 1}}\n",
    );
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with(
            "all.yaml:1: NetworkPolicy x/p: spec.egress[0].to[0].podSelector.matchLabels.a: invalid type: integer `1`"
        ),
        "{told:?}"
    );
}

#[test]
fn other_kinds_are_ignored_and_counted() {
    let taken = taken(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n---\napiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy\nmetadata: {name: a}\n",
    );
    assert_eq!((taken.objects.len(), taken.problems.len(), taken.ignored), (0, 0, 2));
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..9 {
        let before = format!("*a{}, ", i - 1).repeat(10);
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", before.trim_end_matches(", ")));
    }
    assert_eq!(problems(&bomb).len(), 1);
}

#[test]
fn depth_is_limited() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000), "{\"a\":".repeat(100_000)]
    {
        assert_eq!(problems(&text).len(), 1);
    }
}

#[test]
fn a_folder_is_read_whole_and_what_is_not_there_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(matches!(read(folder.path()), Err(Error::Nothing { .. })));
    fs::create_dir(folder.path().join("sub")).expect("a folder");
    fs::write(folder.path().join("b.yml"), POD).expect("written");
    fs::write(folder.path().join("sub/a.yaml"), POD.replace("name: a", "name: b")).expect("written");
    fs::write(folder.path().join("notes.txt"), "not: ours").expect("written");
    let got = read(folder.path()).expect("read");
    assert_eq!((got.objects, got.files.len(), got.cluster.pods.len()), (2, 2, 2));
    assert!(matches!(read(&folder.path().join("absent.yaml")), Err(Error::Io { .. })));
    fs::write(folder.path().join("empty.yaml"), "# nothing\n").expect("written");
    assert!(matches!(read(&folder.path().join("empty.yaml")), Err(Error::Empty { .. })));
}

fn pods(change: Option<Change>) -> Option<usize> {
    match change {
        Some(Change::New(read)) => Some(read.cluster.pods.len()),
        _ => None,
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_file_is_read_again_when_it_is_written_replaced_or_gone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("all.yaml");
    fs::write(&file, POD).expect("written");
    let (mut watcher, first) = Watcher::new(&file).expect("read");
    assert_eq!(first.cluster.pods.len(), 1);
    assert!(watcher.wait(Duration::from_millis(100)).is_none(), "nothing has changed");
    let two = format!("{POD}---\n{}", POD.replace("name: a", "name: b"));
    fs::write(&file, &two).expect("written");
    assert_eq!(pods(watcher.wait(PATIENCE)), Some(2));
    let beside = folder.path().join("new");
    fs::write(&beside, POD).expect("written");
    fs::rename(&beside, &file).expect("renamed");
    assert_eq!(pods(watcher.wait(PATIENCE)), Some(1));
    fs::remove_file(&file).expect("removed");
    assert!(matches!(watcher.wait(PATIENCE), Some(Change::Kept(Error::Io { .. }))));
    fs::write(&file, &two).expect("written");
    assert_eq!(pods(watcher.wait(PATIENCE)), Some(2));
}

#[test]
fn a_mounted_configmap_is_read_again_when_its_link_is_swapped() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    let link = |to: &str, from: &Path| std::os::unix::fs::symlink(to, from).expect("linked");
    for (name, text) in
        [("..1", POD.to_owned()), ("..2", format!("{POD}---\n{}", POD.replace("name: a", "name: b")))]
    {
        fs::create_dir(root.join(name)).expect("a folder");
        fs::write(root.join(name).join("all.yaml"), text).expect("written");
    }
    link("..1", &root.join("..data"));
    link("..data/all.yaml", &root.join("all.yaml"));
    let (mut watcher, first) = Watcher::new(root).expect("read");
    assert_eq!(first.cluster.pods.len(), 1);
    link("..2", &root.join("..data_tmp"));
    fs::rename(root.join("..data_tmp"), root.join("..data")).expect("renamed");
    assert_eq!(pods(watcher.wait(PATIENCE)), Some(2));
}
