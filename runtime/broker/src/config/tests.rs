//! What a configuration accepts and refuses.

use super::*;

fn load(file: &str, environment: &[(&str, &str)], flags: &Overrides) -> Result<Config, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("millstream.toml");
    std::fs::write(&path, file).expect("written");
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::load(Some(&path), environment, flags).map_err(|e| e.to_string())
}

#[test]
fn nothing_said_gives_the_defaults_and_they_read_back() {
    let config = Config::load(None, std::iter::empty(), &Overrides::default()).expect("defaults");
    assert_eq!(config, Config::default());
    assert_eq!(load(&config.to_toml(), &[], &Overrides::default()), Ok(config));
}

#[test]
fn flags_win_over_environment_and_environment_over_file() {
    let file = "[server]\nnode_id = 2\ncores = 1\n[storage]\nio_threads = 3";
    let environment = [("MILLSTREAM_SERVER_NODE_ID", "3"), ("MILLSTREAM_STORAGE_IO_THREADS", "5")];
    let flags =
        Overrides::default().set("server", "node_id", Some(4)).set("log", "level", None::<u8>);
    let config = load(file, &environment, &flags).expect("valid");
    assert_eq!((config.server.node_id, config.server.cores, config.storage.io_threads), (4, 1, 5));
}

#[test]
fn a_typo_is_refused_with_its_place() {
    let error =
        load("[server]\nlisten_adress = \"x\"", &[], &Overrides::default()).expect_err("typo");
    assert!(error.contains("line 2") && error.contains("listen_adress"), "{error}");
    let error = load("[sever]\n", &[], &Overrides::default()).expect_err("typo");
    assert!(error.contains("sever"), "{error}");
    let typo = [("MILLSTREAM_SERVER_LISTEN_ADRESS", "x")];
    let error = load("", &typo, &Overrides::default()).expect_err("typo");
    assert!(error.contains("MILLSTREAM_SERVER_LISTEN_ADRESS"), "{error}");
}

#[test]
fn variables_of_the_command_line_are_not_configuration() {
    let others = [("MILLSTREAM_BROKER", "x"), ("MILLSTREAM_CA", "y"), ("PATH", "z")];
    assert_eq!(load("", &others, &Overrides::default()), Ok(Config::default()));
}

#[test]
fn quantities_are_read_as_people_write_them() {
    for (text, bytes) in [("64MiB", 64 << 20), ("1.5GiB", 3 << 29), ("10 MB", 10_000_000), ("7", 7)]
    {
        assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
    }
    for text in ["", "MiB", "-1B", "1XB", "99999999TiB"] {
        assert!(text.parse::<Bytes>().is_err(), "{text}");
    }
    for (text, millis) in [("30s", 30_000), ("250ms", 250), ("7d", 604_800_000)] {
        let duration: Duration = text.parse().expect("a duration");
        assert_eq!((duration.0.as_millis(), duration.to_string().as_str()), (millis, text));
    }
    assert!("30".parse::<Duration>().is_err() && "1y".parse::<Duration>().is_err());
}

#[test]
fn a_number_outside_its_range_is_refused_by_name() {
    let error = load("[storage]\nio_threads = 0", &[], &Overrides::default()).expect_err("range");
    assert_eq!(error, "storage.io_threads is 0: the range is 1 to 256");
}
