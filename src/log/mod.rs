//! The log: ours, GStreamer's, GLib's and the last words of a panic, in one stream on stderr.
//!
//! Lines are written by a thread of their own from a bounded queue, so that a reader of stderr who
//! stalls never stalls a streaming thread; what does not fit is dropped. GStreamer's lines have the
//! target `gstreamer`, GLib's `glib`, each one level lower than they call themselves: what ends a
//! camera or a session is reported by whoever owns it, in words that say what to do. GStreamer's
//! warnings and errors are heard; `GST_DEBUG` makes it say more, and `GST_DEBUG_FILE` puts all of it
//! into a file as well.
//!
//! What a stranger can make us say as often as he likes (a refusal, a connection that is dropped) is
//! said through [`heard`], a few times in ten seconds for each place in the source; how many lines
//! were left out stands in the next, or in one of its own that [`tell_suppressed`] writes.

mod limiter;

use std::io::IsTerminal as _;
use std::panic::Location;
use std::sync::{LazyLock, Mutex, PoisonError};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::clock::Timestamp;
use crate::config;
use crate::error::Error;
use limiter::Limiter;

/// Lines that wait to be written at most.
const LINES_MAX: usize = 8_192;

/// What was heard of each place of ours that calls [`heard`].
static OURS: LazyLock<Mutex<Limiter>> = LazyLock::new(Mutex::default);

/// Keeps the log going; dropping it writes out what waits.
#[derive(Debug)]
#[must_use = "a log that is dropped writes nothing more"]
pub struct Log {
    _writer: WorkerGuard,
}

/// Starts the log, once in a process, before GStreamer is initialised.
///
/// # Errors
/// [`Error::Config`] for a filter that is none; [`Error::Internal`] where there is a log already.
pub fn init(config: &config::Log) -> Result<Log, Error> {
    let filter = EnvFilter::builder()
        .parse(&config.level)
        .map_err(|error| Error::Config(format!("log.level: {error}; write it like \"info\"")))?;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match config.format {
        config::LogFormat::Text => builder.finish().try_init(),
        config::LogFormat::Json => builder.json().finish().try_init(),
    };
    started.map_err(|error| Error::Internal(format!("the log cannot be started: {error}")))?;
    hear_panics();
    hear_glib();
    hear_gstreamer();
    Ok(Log { _writer: guard })
}

/// Whether the line that the caller is about to log is written: with how many from the same place
/// were left out since the last, or not at all.
#[track_caller]
pub fn heard() -> Option<u64> {
    let place = Location::caller();
    pass(&OURS, place.file(), place.line())
}

/// Writes how many lines were left out where nothing has told it yet; to be called now and then.
pub fn tell_suppressed() {
    let silences = OURS.lock().unwrap_or_else(PoisonError::into_inner).silences(Timestamp::now());
    for silence in silences {
        let place = format!("{}:{}", silence.source, silence.line);
        tracing::info!(place, suppressed = silence.suppressed, "lines of one kind were left out");
    }
}

fn hear_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            thread = thread.name().unwrap_or("unnamed"),
            place,
            backtrace = %std::backtrace::Backtrace::capture(),
            "panic: {}",
            panic.payload_as_str().unwrap_or("without a message")
        );
    }));
}

fn hear_gstreamer() {
    // What somebody wants in a file stays whole: GStreamer writes it there itself.
    if std::env::var_os("GST_DEBUG_FILE").is_none() {
        gst::log::remove_default_log_function();
    }
    if std::env::var_os("GST_DEBUG").is_none() {
        gst::log::set_default_threshold(gst::DebugLevel::Warning);
    }
    let limiter = Mutex::new(Limiter::default());
    // Never taken off again: it is to hear everything to the end.
    let _ = gst::log::add_log_function(move |category, level, file, _, line, object, message| {
        let Some(suppressed) = pass(&limiter, file.as_str(), line) else { return };
        let message = message.get();
        let message = message.as_ref().map_or("", |message| message.as_str());
        let object = object.map(ToString::to_string).unwrap_or_default();
        let category = category.name();
        match level {
            // What a client of RTSP did wrong is told by us, with its address and path.
            gst::DebugLevel::Error if category != "rtspclient" => tracing::warn!(
                target: "gstreamer", category, object, suppressed, "{message}"
            ),
            // GStreamer warns of what is everyday here: a client that hangs up, a missing queue
            // that is missing on purpose.
            gst::DebugLevel::Error
            | gst::DebugLevel::Warning
            | gst::DebugLevel::Fixme
            | gst::DebugLevel::Info => {
                tracing::debug!(target: "gstreamer", category, object, suppressed, "{message}");
            }
            _ => tracing::trace!(target: "gstreamer", category, object, suppressed, "{message}"),
        }
    });
}

/// Takes GLib's own log (libnice, libsoup, a critical of GObject), which would go to stderr past
/// ours. `G_DEBUG=fatal-criticals` still ends the process, as in tests it should.
fn hear_glib() {
    let limiter = Mutex::new(Limiter::default());
    glib::log_set_writer_func(move |level, fields| {
        let field = |name: &str| fields.iter().find(|field| field.key() == name)?.value_str();
        let message = field("MESSAGE").unwrap_or_default();
        let domain = field("GLIB_DOMAIN").unwrap_or_default();
        // What is variable in a message stands at its end more often than not.
        let key = message.get(..24).unwrap_or(message);
        let Some(suppressed) = pass(&limiter, key, 0) else {
            return glib::LogWriterOutput::Handled;
        };
        match level {
            glib::LogLevel::Error | glib::LogLevel::Critical => {
                tracing::error!(target: "glib", domain, suppressed, "{message}");
            }
            glib::LogLevel::Warning => {
                tracing::info!(target: "glib", domain, suppressed, "{message}");
            }
            _ => tracing::debug!(target: "glib", domain, suppressed, "{message}"),
        }
        glib::LogWriterOutput::Handled
    });
}

fn pass(limiter: &Mutex<Limiter>, source: &str, line: u32) -> Option<u64> {
    let now = Timestamp::now();
    limiter.lock().unwrap_or_else(PoisonError::into_inner).pass(source, line, now)
}
