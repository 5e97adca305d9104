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

/// Sections that are read at most; a browser with a dozen tracks has a dozen.
const SECTIONS_MAX: usize = 32;

/// Why a text is no session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
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
}

impl<'a> Description<'a> {
    /// Reads a description.
    ///
    /// # Errors
    /// Says which line is wrong, counted from 1.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let mut lines = text.lines().enumerate();
        if lines.next().is_none_or(|(_, line)| line.trim_end() != "v=0") {
            return Err(Malformed::Version);
        }
        let mut description = Self { attributes: Attributes::default(), sections: Vec::new() };
        for (index, line) in lines {
            description.line(line.trim_end(), index + 1)?;
        }
        Ok(description)
    }

    fn line(&mut self, line: &'a str, number: usize) -> Result<(), Malformed> {
        if line.is_empty() {
            return Ok(());
        }
        let (kind, value) = line.split_once('=').ok_or(Malformed::Line(number))?;
        if kind.len() != 1 || value.contains(|c: char| c.is_control() && c != '\t') {
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
                section.unwrap_or(&mut self.attributes).0.push((name, value.trim()));
            }
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Section<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let (media, port, protocol) = (words.next()?, words.next()?, words.next()?);
        let port = port.split_once('/').map_or(port, |(port, _)| port);
        port.parse::<u16>().ok()?;
        let formats: Vec<&str> = words.collect();
        let known = !formats.is_empty() && value.is_ascii();
        known.then(|| Self { media, protocol, formats, attributes: Attributes::default() })
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
}
