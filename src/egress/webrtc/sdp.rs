//! The little of SDP (RFC 8866) that an offer needs: lines, sections, attributes.
//!
//! Sans-IO and in safe Rust: no parser written in C sees a stranger's text.

/// One session description, borrowed from its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description<'a> {
    /// The attributes before the first section.
    pub attributes: Attributes<'a>,
    /// The sections, in order.
    pub sections: Vec<Section<'a>>,
}

/// One `m=` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// `video`, `audio`, `application`, …
    pub media: &'a str,
    /// Where the media would go; 0 for a section that is not used, or is bundled with another.
    pub port: u16,
    /// `UDP/TLS/RTP/SAVPF`, …
    pub protocol: &'a str,
    /// Payload types, or whatever the protocol has in their place.
    pub formats: Vec<&'a str>,
    /// The attributes of this section.
    pub attributes: Attributes<'a>,
}

/// Attributes in order: name and value, which is empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Attributes<'a> {
    /// The values of every attribute called `name`.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// The value of the first attribute called `name`.
    pub fn first(&self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Whether there is an attribute called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }
}

/// The longest description that is read, in bytes, and its longest line. Browsers stay below 10,000
/// and 300.
const BYTES_MAX: usize = 64 << 10;
const LINE_BYTES_MAX: usize = 2048;

/// Sections that are read at most; a browser with a dozen tracks has a dozen.
const SECTIONS_MAX: usize = 32;

/// Attributes of one section, or of the session, that are read at most; Chromium's video has 150.
const ATTRIBUTES_MAX: usize = 512;

/// Formats of one section; there are 128 payload types.
const FORMATS_MAX: usize = 128;

/// Why a text is no session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is too long to be one.
    #[error("it is longer than {BYTES_MAX} bytes")]
    Long,
    /// It does not begin as one.
    #[error("the first line is not `v=0`")]
    Version,
    /// A line that is not `letter=value`.
    #[error("line {0} is not of the form `x=value`")]
    Line(usize),
    /// An `m=` line without media, port, protocol and a format.
    #[error("line {0} is no complete `m=` line")]
    Media(usize),
    /// More sections than anybody needs.
    #[error("there are more than {SECTIONS_MAX} media sections")]
    Sections,
    /// More attributes than anybody needs.
    #[error("there are more than {ATTRIBUTES_MAX} attributes in one section")]
    Attributes,
}

impl<'a> Description<'a> {
    /// Reads a description.
    ///
    /// # Errors
    /// Says which line is wrong, counted from 1.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        if text.len() > BYTES_MAX {
            return Err(Malformed::Long);
        }
        let mut lines = text.lines().map(trimmed).enumerate();
        if lines.next().is_none_or(|(_, line)| line != "v=0") {
            return Err(Malformed::Version);
        }
        let mut description = Self { attributes: Attributes::default(), sections: Vec::new() };
        for (index, line) in lines {
            description.line(line, index + 1)?;
        }
        Ok(description)
    }

    fn line(&mut self, line: &'a str, number: usize) -> Result<(), Malformed> {
        if line.is_empty() {
            return Ok(());
        }
        let (kind, value) = line.split_once('=').ok_or(Malformed::Line(number))?;
        // `v` begins another description.
        let is_kind = matches!(kind.as_bytes(), [b'a'..=b'u' | b'w'..=b'z']);
        let is_text = !value.contains(|c: char| c.is_control() && c != '\t');
        if !is_kind || !is_text || line.len() > LINE_BYTES_MAX {
            return Err(Malformed::Line(number));
        }
        match kind {
            "m" => {
                let section = Section::parse(value).ok_or(Malformed::Media(number))?;
                if self.sections.len() >= SECTIONS_MAX {
                    return Err(Malformed::Sections);
                }
                self.sections.push(section);
            }
            "a" => {
                let (name, value) = value.split_once(':').unwrap_or((value, ""));
                let section = self.sections.last_mut().map(|section| &mut section.attributes);
                let attributes = &mut section.unwrap_or(&mut self.attributes).0;
                if !is_token(name, LINE_BYTES_MAX) {
                    return Err(Malformed::Line(number));
                }
                if attributes.len() >= ATTRIBUTES_MAX {
                    return Err(Malformed::Attributes);
                }
                attributes.push((name, value.trim()));
            }
            _ => {}
        }
        Ok(())
    }
}

/// A line without what ends it.
fn trimmed(line: &str) -> &str {
    line.trim_end_matches(['\r', ' ', '\t'])
}

/// A number as SDP has it: digits, and nothing else.
pub fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A token of RFC 8866, up to `bytes_max` long.
pub fn is_token(value: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&value.len())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(&byte))
}

impl<'a> Section<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let (media, port, protocol) = (words.next()?, words.next()?, words.next()?);
        let (port, count) = port.split_once('/').unwrap_or((port, "1"));
        let (port, _): (u16, u16) = (number(port)?, number(count)?);
        let formats: Vec<&str> = words.collect();
        // The answer repeats them.
        let is_known = is_token(media, 32)
            && protocol.split('/').all(|part| is_token(part, 32))
            && (1..=FORMATS_MAX).contains(&formats.len())
            && formats.iter().all(|format| is_token(format, 32));
        let attributes = Attributes::default();
        is_known.then_some(Self { media, port, protocol, formats, attributes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_belong_to_the_section_they_stand_in() {
        let text = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n\
                    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
                    m=video 9/2 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:1\r\na=rtcp-mux\r\n";
        let description = Description::parse(text).unwrap();
        assert!(description.attributes.has("ice-lite"));
        assert_eq!(description.sections[0].attributes.first("mid"), Some("0"));
        assert_eq!(description.sections[1].attributes.first("mid"), Some("1"));
        assert_eq!(description.sections[1].formats, ["96", "97"]);
        assert!(!description.sections[0].attributes.has("rtcp-mux"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        assert_eq!(Description::parse(""), Err(Malformed::Version));
        assert_eq!(Description::parse("{}"), Err(Malformed::Version));
        assert_eq!(Description::parse("v=0\r\nhello\r\n"), Err(Malformed::Line(2)));
        assert_eq!(Description::parse("v=0\nm=video 9 RTP\n"), Err(Malformed::Media(2)));
        let many = format!("v=0\n{}", "m=audio 0 RTP/AVP 0\n".repeat(33));
        assert_eq!(Description::parse(&many), Err(Malformed::Sections));
    }

    /// How many sections a text has.
    fn sections(text: &str) -> Result<usize, Malformed> {
        Description::parse(text).map(|description| description.sections.len())
    }

    #[test]
    fn each_bound_holds_and_one_past_it_is_refused() {
        let of = |line: &str, count| sections(&format!("v=0\n{}", line.repeat(count)));
        assert_eq!(of("m=audio 0 RTP/AVP 0\n", 32), Ok(32));
        assert!(of("a=x\n", 512).is_ok());
        assert_eq!(of("a=x\n", 513), Err(Malformed::Attributes));
        let line = |bytes: usize| format!("a={}\n", "x".repeat(bytes - 2));
        assert!(of(&line(2048), 1).is_ok());
        assert_eq!(of(&line(2049), 1), Err(Malformed::Line(2)));
        let formats = |count: usize| format!("m=video 9 RTP/SAVPF{}\n", " 96".repeat(count));
        assert!(of(&formats(128), 1).is_ok());
        assert_eq!(of(&formats(129), 1), Err(Malformed::Media(2)));
        let text = |bytes: usize| format!("v=0\n{}", "\n".repeat(bytes - 4));
        assert!(Description::parse(&text(64 << 10)).is_ok());
        assert_eq!(Description::parse(&text((64 << 10) + 1)), Err(Malformed::Long));
    }

    #[test]
    fn lines_of_another_form_are_refused() {
        for line in [
            "a=x\0",
            "a=x\u{7}y",
            "a=x\ry",
            "a=x\u{85}y",
            "a=\u{e9}:x",
            "a=two words:x",
            "a=",
            "A=x",
            "=x",
            "v=0",
            "\u{e9}=x",
        ] {
            let parsed = sections(&format!("v=0\r\n{line}\r\n"));
            assert_eq!(parsed, Err(Malformed::Line(2)), "{line:?}");
        }
        for media in [
            "video 65536 RTP/SAVPF 96",
            "video +9 RTP/SAVPF 96",
            "video 9/x RTP/SAVPF 96",
            "video 9 RTP//SAVPF 96",
            "video 9 RTP/SAVPF a=b",
            "vid\u{e9}o 9 RTP/SAVPF 96",
        ] {
            let parsed = sections(&format!("v=0\r\nm={media}\r\n"));
            assert_eq!(parsed, Err(Malformed::Media(2)), "{media}");
        }
    }
}
