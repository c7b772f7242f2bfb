//! Which rooms of the core may import which.
//!
//! A room is a folder or a file at the top of `src`. A room may import the rooms below it, and no others:
//! neither those above nor its neighbours. The picture in ARCHITECTURE.md shows the same rows.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot continue panics"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, from top to bottom.
const ROOMS: [&[&str]; 7] = [
    &["cache"],
    &["worker"],
    &["options", "doctor", "operation"],
    &["net", "keyspace"],
    &["resp"],
    &["error"],
    &["secret", "spin", "seal", "etf"],
];

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn row_of(room: &str) -> Option<usize> {
    ROOMS.iter().position(|row| row.contains(&room))
}

/// All source files.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The path of the module in a file, without `crate`.
fn module_of(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(source_folder()).unwrap();
    let mut module: Vec<_> = relative
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// The rooms that a file names in paths that start with `crate` or `super`.
fn imports(file: &Path) -> Vec<String> {
    let source = fs::read_to_string(file).unwrap();
    let mut module = module_of(file);
    let mut rooms = Vec::new();
    for line in source.lines() {
        assert!(
            !line.contains("crate::{"),
            "{}: import one room a line: {line}",
            file.display()
        );
        // A test module is one level deeper.
        if line.starts_with("mod tests {") {
            module.push("tests".to_owned());
        }
        if line.trim_start().starts_with("//") {
            continue;
        }
        rooms.extend(line.split("crate::").skip(1).map(first_name));
        rooms.extend(outer_name(line, module.len()));
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

/// The room that a path of as many `super`s as the module is deep leads to.
fn outer_name(line: &str, depth: usize) -> Option<String> {
    let start = line.find("super::")?;
    let mut path = line.get(start..)?;
    let mut supers = 0;
    while let Some(rest) = path.strip_prefix("super::") {
        supers += 1;
        path = rest;
    }
    (supers >= depth).then(|| first_name(path))
}

fn first_name(path: &str) -> String {
    let is_name = |character: &char| character.is_alphanumeric() || *character == '_';
    path.chars().take_while(is_name).collect()
}

#[test]
fn rooms_import_only_the_rooms_below_them() {
    let mut checked = 0;
    for file in files(&source_folder()) {
        let module = module_of(&file);
        let room = &module[0];
        // The properties for fuzzers read all rooms, and none may import them.
        if room == "lib" || room == "fuzzing" {
            continue;
        }
        let row = row_of(room).unwrap_or_else(|| panic!("{room} is not in the table of rooms"));
        for import in imports(&file) {
            let below = row_of(&import).is_some_and(|imported| imported > row);
            let place = file.display();
            assert!(
                below || import == *room,
                "{place}: {room} must not import {import}"
            );
            checked += usize::from(import != *room);
        }
    }
    assert!(checked > 100, "only {checked} imports found");
}

#[test]
fn every_room_exists() {
    for room in ROOMS.concat() {
        let path = source_folder().join(room);
        assert!(
            path.is_dir() || path.with_extension("rs").is_file(),
            "there is no room {room}"
        );
    }
    let at_the_top = fs::read_dir(source_folder())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().is_file())
        .count();
    assert!(at_the_top <= 6, "{at_the_top} files at the top");
}

/// The rows of the picture in ARCHITECTURE.md, each with its rooms in order.
#[test]
fn the_picture_shows_the_rooms() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let text = fs::read_to_string(file).unwrap();
    let picture = text
        .split("```")
        .find(|block| block.contains("pow_redis_nif"))
        .expect("ARCHITECTURE.md has no picture of the rooms");
    let mut lines = picture.lines();
    for row in ROOMS {
        let names: Vec<_> = row
            .iter()
            .map(|room| {
                let folder = source_folder().join(room).is_dir();
                format!("{room}{}", if folder { "/" } else { ".rs" })
            })
            .collect();
        let found = lines.any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.starts_with(&names.iter().map(String::as_str).collect::<Vec<_>>())
        });
        assert!(found, "the picture lacks the row {names:?}, or its place");
    }
}

#[test]
fn the_check_sees_imports() {
    let sees = |line: &str, depth| outer_name(line, depth);
    assert_eq!(
        sees("use super::super::worker::Worker;", 2),
        Some("worker".to_owned())
    );
    assert_eq!(sees("use super::socket::Socket;", 2), None);
    assert_eq!(first_name("net::client::Client;"), "net");
    assert_eq!(
        module_of(&source_folder().join("doctor/keyspace_stats/mod.rs")),
        ["doctor", "keyspace_stats"]
    );
}
