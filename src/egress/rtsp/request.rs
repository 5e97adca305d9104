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

    /// Whether its address is text, also once it is decoded: what the binding gives out as text of an
    /// address that is none is undefined, and a panic in a debug build.
    pub(super) fn has_readable_address(self) -> bool {
        let (mut method, mut uri, mut version) = (0, ptr::null(), 0);
        // SAFETY: the message lives as long as `self`. The function writes two numbers, and a pointer to
        // a string that belongs to the message and ends with a zero.
        let address = unsafe {
            let message = self.0.to_glib_none().0;
            let parsed =
                ffi::gst_rtsp_message_parse_request(message, &mut method, &mut uri, &mut version);
            if parsed != ffi::GST_RTSP_OK || uri.is_null() {
                return false;
            }
            CStr::from_ptr(uri)
        };
        is_text_once_decoded(address.to_bytes())
    }

    /// The first value of a header; `Some("\u{fffd}")` where it is no text of a bearable length, or where
    /// there is another: it is there, and nothing that is asked for.
    pub(super) fn header(self, field: RTSPHeaderField) -> Option<String> {
        let first = self.value(field, 0)?;
        let only = self.value(field, 1).is_none();
        let text = first.filter(|text| only && text.len() <= VALUE_BYTES_MAX);
        Some(text.unwrap_or_else(|| char::REPLACEMENT_CHARACTER.to_string()))
    }

    /// The value of a header's `index`th occurrence: its text, or nothing where it is no text.
    fn value(self, field: RTSPHeaderField, index: i32) -> Option<Option<String>> {
        let mut value = ptr::null_mut();
        // SAFETY: the message lives as long as `self`. The function writes a pointer to a string that
        // belongs to the message and ends with a zero.
        let text = unsafe {
            let message: *mut ffi::GstRTSPMessage = self.0.to_glib_none().0;
            let found =
                ffi::gst_rtsp_message_get_header(message, field.into_glib(), &mut value, index);
            if found != ffi::GST_RTSP_OK || value.is_null() {
                return None;
            }
            CStr::from_ptr(value)
        };
        Some(text.to_str().ok().map(str::to_owned))
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

/// Whether `%` and two digits, wherever they stand, leave UTF-8.
fn is_text_once_decoded(address: &[u8]) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(address.len());
    let mut rest = address;
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        decoded.push(escaped.map_or(*first, |(high, low)| high << 4 | low));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    std::str::from_utf8(&decoded).is_ok()
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
    fn an_address_that_is_no_text_once_it_is_decoded_is_noticed() {
        for address in ["rtsp://h/sim", "rtsp://h/s%69m", "rtsp://h/%c3%A9", "*", "%", "%2", "%zz"]
        {
            assert!(is_text_once_decoded(address.as_bytes()), "{address}");
        }
        for address in [&b"rtsp://h/%ff%fe"[..], b"rtsp://h/\xff", b"rtsp://h/%c3/%a9", b"%C0%80"] {
            assert!(!is_text_once_decoded(address), "{}", address.escape_ascii());
        }
    }

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
