//! What a request says, where the binding (gstreamer-rtsp 0.25) shows nothing of it: its method and
//! its headers; and whether it makes sense to hand it to gst-rtsp-server.
#![expect(unsafe_code, reason = "the binding has no getters for a message's method and headers")]

use std::ffi::CStr;
use std::ptr;

use glib::translate::*;
use gst_rtsp::rtsp_message::RTSPMessage;
use gst_rtsp::{RTSPHeaderField, RTSPMethod, RTSPStatusCode, ffi};

/// The longest header value that is looked at, in bytes.
const VALUE_BYTES_MAX: usize = 2048;

/// One request.
#[derive(Clone, Copy)]
pub(super) struct Request<'a>(&'a RTSPMessage);

impl<'a> Request<'a> {
    pub(super) const fn new(message: &'a RTSPMessage) -> Self {
        Self(message)
    }

    /// Its method; `None` where it is no request.
    pub(super) fn method(self) -> Option<RTSPMethod> {
        let (mut method, mut uri, mut version) = (0, ptr::null(), 0);
        // SAFETY: the message lives as long as `self`. The function writes a number and a version, and
        // a pointer into the message that is not used.
        let parsed = unsafe {
            let message = self.0.to_glib_none().0;
            ffi::gst_rtsp_message_parse_request(message, &mut method, &mut uri, &mut version)
        };
        // SAFETY: any number is a set of flags.
        (parsed == ffi::GST_RTSP_OK).then(|| unsafe { from_glib(method) })
    }

    /// The first value of a header, where it is text of a bearable length.
    pub(super) fn header(self, field: RTSPHeaderField) -> Option<String> {
        let mut value = ptr::null_mut();
        // SAFETY: the message lives as long as `self`. The function writes a pointer to a string that
        // belongs to the message and ends with a zero.
        let text = unsafe {
            let message: *mut ffi::GstRTSPMessage = self.0.to_glib_none().0;
            let found = ffi::gst_rtsp_message_get_header(message, field.into_glib(), &mut value, 0);
            if found != ffi::GST_RTSP_OK || value.is_null() {
                return None;
            }
            CStr::from_ptr(value)
        };
        let text = text.to_str().ok().filter(|text| text.len() <= VALUE_BYTES_MAX)?;
        Some(text.to_owned())
    }

    /// Whether the library may see it: a camera plays now and at its own speed, so everything else
    /// is refused before gst-rtsp-server's arithmetic sees it (CVE-2024-44331: assertions that a
    /// stranger's Scale, Speed or Range can fail).
    ///
    /// # Errors
    /// The answer, and why.
    pub(super) fn check(self) -> Result<(), (RTSPStatusCode, &'static str)> {
        let fits = |field, is_right: fn(&str) -> bool| {
            self.header(field).is_none_or(|value| is_right(value.trim()))
        };
        if !fits(RTSPHeaderField::Scale, is_one) || !fits(RTSPHeaderField::Speed, is_one) {
            let why = "a camera plays at its own speed";
            return Err((RTSPStatusCode::HeaderFieldNotValidForResource, why));
        }
        if !fits(RTSPHeaderField::Range, is_open_range) {
            return Err((RTSPStatusCode::InvalidRange, "a camera plays from now on"));
        }
        Ok(())
    }
}

fn is_one(value: &str) -> bool {
    matches!(value, "1" | "1.0" | "1.00" | "1.000" | "1.000000")
}

/// `npt=now-`, or `npt=` with a plain number of seconds and no end.
fn is_open_range(value: &str) -> bool {
    let Some(start) = value.strip_prefix("npt=").and_then(|rest| rest.strip_suffix('-')) else {
        return false;
    };
    let (seconds, fraction) = start.split_once('.').unwrap_or((start, "0"));
    let is_number = |part: &str| {
        (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    start == "now" || (is_number(seconds) && is_number(fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_players_send_is_told_from_what_the_library_chokes_on() {
        for range in ["npt=now-", "npt=0-", "npt=0.000-", "npt=0.000000-", "npt=12.345-"] {
            assert!(is_open_range(range), "{range}");
        }
        for range in [
            "",
            "npt=",
            "npt=-",
            "npt=-1-",
            "npt=0-5",
            "npt=1e9-",
            "npt=nan-",
            "npt=now-now-",
            "clock=19961108T142300Z-",
            "smpte=0:00:00-",
            "npt=99999999999999-",
            "npt=0.-",
        ] {
            assert!(!is_open_range(range), "{range}");
        }
        for speed in ["0", "-1", "2", "nan", "inf", "1e308", "1.0x", ""] {
            assert!(!is_one(speed), "{speed}");
        }
    }
}
