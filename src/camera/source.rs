//! Where pictures come from: one of four kinds, each with its own way to be opened.

use std::path::PathBuf;
use std::sync::Arc;

use super::lost::Lost;
use super::plan::{self, Feed};
use super::rtsp::Address;
use super::simulated::Simulator;
use super::{libcamera, rtsp, simulated, v4l2};
use crate::config;
use crate::elements;
use crate::error::Error;

/// A camera's source across rebuilds.
#[derive(Debug)]
pub(super) enum Source {
    /// The simulated camera.
    Simulated(Arc<Simulator>),
    /// A Video4Linux device.
    V4l2(PathBuf),
    /// A camera that libcamera knows; the first where no name is given.
    Libcamera(Option<String>),
    /// A network camera.
    Rtsp(Address),
}

impl Source {
    /// The source that `config` names.
    ///
    /// # Errors
    /// Where an element is missing, or the configuration asks for what the source cannot do.
    pub(super) fn new(config: &config::Camera) -> Result<Self, Error> {
        match &config.source {
            config::Source::Simulated(simulated) => {
                elements::require("appsrc")?;
                let size = plan::source_size(config);
                let simulator = Simulator::new(simulated.clone(), size, config.framerate);
                Ok(Self::Simulated(Arc::new(simulator)))
            }
            config::Source::V4l2 { device } => {
                elements::require("v4l2src")?;
                Ok(Self::V4l2(device.clone()))
            }
            config::Source::Libcamera { name } => {
                elements::require("libcamerasrc")?;
                Ok(Self::Libcamera(name.clone()))
            }
            config::Source::Rtsp { url } => {
                elements::require("rtspsrc")?;
                elements::require("rtph264depay")?;
                rtsp::check(config)?;
                Ok(Self::Rtsp(Address::parse(url)?))
            }
        }
    }

    /// The source in words, without passwords.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Simulated(_) => "simulated".into(),
            Self::V4l2(device) => device.display().to_string(),
            Self::Libcamera(None) => "libcamera".into(),
            Self::Libcamera(Some(name)) => format!("libcamera {name}"),
            Self::Rtsp(address) => address.host().into(),
        }
    }

    /// Whether its pictures are encoded here.
    pub(super) const fn is_encoded_here(&self) -> bool {
        !matches!(self, Self::Rtsp(_))
    }

    /// Looks at the source and says by which elements it is read. May block while a device opens.
    ///
    /// # Errors
    /// Where the source is not there, or cannot deliver what is asked for.
    pub(super) fn feed(&self, config: &config::Camera) -> Result<Feed, Lost> {
        match self {
            Self::Simulated(simulator) => {
                simulator.open().map_err(|error| Lost::open(error.to_string()))?;
                Ok(simulated::feed(simulator))
            }
            Self::V4l2(device) => v4l2::feed(device, config),
            Self::Libcamera(name) => Ok(libcamera::feed(name.as_deref(), config)),
            Self::Rtsp(address) => Ok(rtsp::feed(address)),
        }
    }

    /// The simulator, where it is the simulated camera.
    pub(super) fn simulator(&self) -> Option<&Arc<Simulator>> {
        match self {
            Self::Simulated(simulator) => Some(simulator),
            _ => None,
        }
    }
}
