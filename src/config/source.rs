//! Where a camera's pictures come from.

use std::path::PathBuf;

use serde::Deserialize;

/// `camera.source`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Keys")]
pub enum Source {
    /// A camera that libcamera knows.
    Libcamera {
        /// As `lensline probe` lists it; the first camera where not given.
        name: Option<String>,
    },
    /// A Video4Linux device.
    V4l2 {
        /// The device node.
        device: PathBuf,
    },
    /// A network camera whose H.264 is passed through.
    Rtsp {
        /// Its address, with user and password where it wants them.
        url: String,
    },
    /// The simulated camera.
    Simulated(Simulated),
}

/// `{ kind = "simulated", … }`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Simulated {
    /// What the picture shows.
    pub pattern: Pattern,
    /// How hard the picture is to encode, 0 to 1.
    pub noise: f64,
    /// What goes wrong, and when.
    pub faults: Vec<Fault>,
    /// Seed of everything random.
    pub seed: u64,
}

/// What the simulated camera shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// Moving shapes on a moving gradient.
    #[default]
    Scene,
    /// Colour bars that stand still.
    Bars,
    /// One grey.
    Solid,
}

/// Something that goes wrong with the simulated camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When, in milliseconds after the program started the camera for the first time.
    pub at_ms: u64,
    /// What.
    pub kind: FaultKind,
    /// For how long, in milliseconds.
    #[serde(default)]
    pub for_ms: u64,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Pictures stop, without an error.
    Freeze,
    /// The device is gone: an error, and it cannot be opened.
    Unplug,
    /// Time stamps jump ahead and, at the end of the fault, back.
    PtsJump,
    /// Pictures come at a fifth of the rate.
    Slow,
    /// What comes is not a picture.
    Garbage,
}

/// The keys of every kind of source together. A tagged enum of serde would do, but it loses where
/// in the source a fault is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    kind: Kind,
    name: Option<String>,
    device: Option<PathBuf>,
    url: Option<String>,
    pattern: Option<Pattern>,
    noise: Option<f64>,
    faults: Option<Vec<Fault>>,
    seed: Option<u64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Libcamera,
    V4l2,
    Rtsp,
    Simulated,
}

impl Kind {
    /// What it is called, and the keys that belong to it.
    const fn keys(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Libcamera => ("libcamera", &["name"]),
            Self::V4l2 => ("v4l2", &["device"]),
            Self::Rtsp => ("rtsp", &["url"]),
            Self::Simulated => ("simulated", &["pattern", "noise", "faults", "seed"]),
        }
    }
}

impl Keys {
    fn given(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("name", self.name.is_some()),
            ("device", self.device.is_some()),
            ("url", self.url.is_some()),
            ("pattern", self.pattern.is_some()),
            ("noise", self.noise.is_some()),
            ("faults", self.faults.is_some()),
            ("seed", self.seed.is_some()),
        ];
        given.into_iter().filter_map(|(key, given)| given.then_some(key))
    }
}

impl TryFrom<Keys> for Source {
    type Error = String;

    fn try_from(keys: Keys) -> Result<Self, String> {
        let (kind, own) = keys.kind.keys();
        let foreign: Vec<_> =
            keys.given().filter(|key| !own.contains(key)).map(|key| format!("`{key}`")).collect();
        if !foreign.is_empty() {
            let own = own.join("`, `");
            let foreign = foreign.join(", ");
            return Err(format!("a source of kind \"{kind}\" has `{own}`, but not {foreign}"));
        }
        let missing = |key: &str| format!("a source of kind \"{kind}\" needs `{key}`");
        Ok(match keys.kind {
            Kind::Libcamera => Self::Libcamera { name: keys.name },
            Kind::V4l2 => Self::V4l2 { device: keys.device.ok_or_else(|| missing("device"))? },
            Kind::Rtsp => Self::Rtsp { url: keys.url.ok_or_else(|| missing("url"))? },
            Kind::Simulated => Self::Simulated(Simulated {
                pattern: keys.pattern.unwrap_or_default(),
                noise: keys.noise.unwrap_or_default(),
                faults: keys.faults.unwrap_or_default(),
                seed: keys.seed.unwrap_or_default(),
            }),
        })
    }
}
