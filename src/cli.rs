//! The command line: what can be asked for, and everything that is answered without streaming.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::config::{self, Config, Loaded, LogFormat, Overrides, Problems};
use crate::error::Error;
use crate::password::{self, PASSWORD_BYTES_MAX};
use crate::probe;

/// One camera, one encode, every viewer, now: streams cameras to browsers over WebRTC and to
/// recorders over RTSP.
#[derive(Debug, Parser)]
#[command(name = "lensline", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stream until SIGINT or SIGTERM.
    Run(Run),
    /// Say everything that is wrong with the configuration.
    Check {
        /// The configuration file [default: /etc/lensline/config.toml, if there is one].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// List cameras, encoders, GStreamer's version, active workarounds, and what `run` would
    /// choose.
    Probe {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the complete default configuration, commented.
    Config,
    /// Read a password on stdin and print its argon2id hash for [[auth.users]].
    HashPassword {
        /// Print digest_ha1 for this user instead, for RTSP players that speak only Digest.
        #[arg(long, value_name = "USER")]
        digest: Option<String>,
    },
}

/// `lensline run`
#[derive(Debug, clap::Args)]
pub struct Run {
    /// The configuration file [default: /etc/lensline/config.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Put the simulated camera in the place of every camera.
    #[arg(long)]
    pub simulate: bool,
    /// Where to serve pages, WHEP and the API.
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where to serve RTSP.
    #[arg(long, value_name = "ADDR:PORT")]
    pub rtsp_listen: Option<SocketAddr>,
    /// How to write the log.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

impl Run {
    /// The configuration to run with: file, environment and these arguments.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn config(&self) -> Result<Loaded, Error> {
        let overrides = Overrides {
            simulate: self.simulate,
            listen: self.listen,
            rtsp_listen: self.rtsp_listen,
            log_format: self.log_format,
        };
        Ok(config::load(self.config.as_deref(), std::env::vars_os(), &overrides)?)
    }
}

/// Makes sure that there is a camera: the first that is found where none is configured.
/// GStreamer must have been initialised.
///
/// # Errors
/// [`Error::NoCamera`], which says what to do.
pub fn with_camera(mut config: Config) -> Result<Config, Error> {
    if config.camera.is_empty() {
        let camera = probe::first_camera().ok_or_else(|| {
            Error::NoCamera(
                "no camera is configured and none was found; see what `lensline probe` lists, or \
                 run `lensline run --simulate` for a simulated one"
                    .into(),
            )
        })?;
        config.camera.push(camera);
    }
    Ok(config)
}

/// `lensline check`
///
/// # Errors
/// Everything that is wrong with the configuration.
pub fn check(path: Option<&Path>) -> Result<(), Error> {
    let loaded = config::load(path, std::env::vars_os(), &Overrides::default())?;
    if !loaded.warnings.is_empty() {
        return Err(Problems(loaded.warnings).into());
    }
    let mut said = match &loaded.file {
        Some(file) => format!("{file} is right"),
        None => format!("there is no {}; the defaults are taken", config::DEFAULT_PATH),
    };
    if !loaded.variables.is_empty() {
        said += &format!(", with {} from the environment", loaded.variables.join(", "));
    }
    said += match loaded.config.camera.len() {
        0 => ": no camera, so `lensline run` takes the first that it finds".into(),
        1 => ": 1 camera".into(),
        count => format!(": {count} cameras"),
    }
    .as_str();
    print(&said)
}

/// `lensline probe`. GStreamer must have been initialised.
///
/// # Errors
/// Where the answer cannot be written.
pub fn probe(json: bool) -> Result<(), Error> {
    let report = probe::report();
    match json {
        false => print(&report.to_string()),
        true => {
            let text = serde_json::to_string_pretty(&report)
                .map_err(|error| Error::Internal(format!("the report is no JSON: {error}")))?;
            print(&text)
        }
    }
}

/// `lensline config`
///
/// # Errors
/// Where the answer cannot be written.
pub fn example() -> Result<(), Error> {
    print(config::EXAMPLE.trim_end())
}

/// `lensline hash-password`: the password is the first line of stdin; a person is asked for it, and
/// does not see it.
///
/// # Errors
/// Where there is no password, or it is longer than a visitor may send.
pub fn hash_password(digest: Option<&str>) -> Result<(), Error> {
    let password = match std::io::stdin().is_terminal() {
        true => rpassword::prompt_password("Password: "),
        false => first_line(),
    };
    let password =
        password.map_err(|error| Error::Config(format!("stdin gives no password: {error}")))?;
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        return Err(Error::Config(format!(
            "the password has {} bytes; give one of 1 to {PASSWORD_BYTES_MAX} on stdin",
            password.len()
        )));
    }
    match digest {
        None => print(&password::hash(&password)?),
        Some(user) => print(&password::rtsp_digest(user, &password)),
    }
}

fn first_line() -> std::io::Result<String> {
    let mut line = String::new();
    // One more than is allowed, so that too much is told from just enough.
    std::io::stdin().lock().take(PASSWORD_BYTES_MAX as u64 + 2).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Writes an answer to stdout. A reader who went away early, as `head` does, is no error.
fn print(text: &str) -> Result<(), Error> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Internal(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_the_contract_are_understood() {
        let line = "lensline run --config a.toml --simulate --listen 127.0.0.1:1 \
                    --rtsp-listen [::1]:2 --log-format json";
        let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Run(run) = arguments.command else { panic!("{arguments:?}") };
        assert_eq!(run.config, Some("a.toml".into()));
        assert!(run.simulate);
        assert_eq!(run.listen.unwrap().port(), 1);
        assert_eq!(run.rtsp_listen.unwrap().port(), 2);
        assert_eq!(run.log_format, Some(LogFormat::Json));
        for line in [
            "check",
            "check --config x",
            "probe",
            "probe --json",
            "config",
            "hash-password",
            "hash-password --digest anna",
        ] {
            let words = ["lensline"].into_iter().chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
