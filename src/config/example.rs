//! The complete default configuration, for people to read and start from.

/// What `lensline config` prints: every key, with its default and what it does.
pub const EXAMPLE: &str = include_str!("example.toml");

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::EXAMPLE;
    use crate::config::de::FaultKind;
    use crate::config::tree::{Node, Origin, Path, Value};
    use crate::config::{Config, check};

    /// The example with every key in it that it only shows.
    fn uncommented() -> String {
        let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
            Some(key) if !key.is_empty() && !key.starts_with(' ') => key,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn tree(text: &str) -> Node {
        let (tree, wrong) = Node::from_toml(text);
        assert!(wrong.is_empty(), "{wrong:?}");
        tree
    }

    /// Every key that the table at `path` may have.
    fn keys_of(tree: &Node, path: &str) -> &'static [&'static str] {
        let mut tree = tree.clone();
        let stranger = Path::parse(&format!("{path}.no_such_key"));
        tree.set(&stranger, Node::table(Origin::Default)).unwrap();
        match Config::deserialize(&tree).unwrap_err().kind {
            FaultKind::UnknownKey { known } => known,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn the_example_is_the_default_configuration() {
        let config = Config::deserialize(&tree(EXAMPLE)).unwrap();
        assert_eq!(config, Config::default());
        assert!(check::findings(&config).is_empty());
    }

    #[test]
    fn what_the_example_only_shows_is_valid_too() {
        let config = Config::deserialize(&tree(&uncommented())).unwrap();
        let found = check::findings(&config);
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(config.camera.len(), 4);
    }

    #[test]
    fn the_camera_of_the_example_shows_the_defaults() {
        let config = Config::deserialize(&tree(&uncommented())).unwrap();
        let (shown, default) = (&config.camera[0], crate::config::Camera::default());
        assert_eq!(shown.encoder, default.encoder);
        assert_eq!(shown.watchdog, default.watchdog);
        assert_eq!((shown.width, shown.height), (default.width, default.height));
        assert_eq!((shown.framerate, shown.flip), (default.framerate, default.flip));
        assert_eq!(shown.crop, default.crop);
        assert_eq!(config.camera[3].source, {
            let mut source = crate::config::Simulated::default();
            let crate::config::Source::Simulated(written) = &config.camera[3].source else {
                panic!("{:?}", config.camera[3].source)
            };
            source.faults.clone_from(&written.faults);
            crate::config::Source::Simulated(source)
        });
    }

    #[test]
    fn every_key_there_is_occurs_in_the_example() {
        let tree = tree(&uncommented());
        let tables = [
            "",
            "server",
            "server.tls",
            "auth",
            "auth.users[0]",
            "rtsp",
            "rtsp.tls",
            "webrtc",
            "webrtc.turn_servers[0]",
            "limits",
            "log",
            "camera[0]",
            "camera[0].crop",
            "camera[0].encoder",
            "camera[0].rendition[0]",
            "camera[0].watchdog",
            "camera[3].source.faults[0]",
        ];
        for table in tables {
            let known = keys_of(&tree, table);
            let missing: Vec<_> = known
                .iter()
                .filter(|key| !tree.has(&Path::parse(&format!("{table}.{key}"))))
                .collect();
            assert!(!known.is_empty() && missing.is_empty(), "[{table}] lacks {missing:?}");
        }
    }

    #[test]
    fn every_key_of_a_source_occurs_in_one_of_the_example_s_cameras() {
        let tree = tree(&uncommented());
        for key in keys_of(&tree, "camera[0].source") {
            let shown = (0..4)
                .any(|camera| tree.has(&Path::parse(&format!("camera[{camera}].source.{key}"))));
            assert!(shown, "{key}");
        }
    }

    #[test]
    fn no_table_of_the_example_is_left_out_of_the_test_above() {
        // A table deeper than these would need a line there.
        fn depth(node: &Node) -> usize {
            match &node.value {
                Value::Table(table) => 1 + table.values().map(depth).max().unwrap_or(0),
                Value::List(list) => list.iter().map(depth).max().unwrap_or(0),
                _ => 0,
            }
        }
        assert_eq!(depth(&tree(&uncommented())), 4);
    }
}
