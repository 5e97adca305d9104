//! The little that the control plane itself reads in SDP: ICE names and media sections.

use super::signalling::Candidate;

/// Candidates in one fragment; an honest client has a handful.
const CANDIDATES_MAX: usize = 64;

/// What is kept of an offer to make sense of what follows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfferFacts {
    ice_ufrags: Vec<String>,
    mids: Vec<String>,
}

/// A trickle fragment (RFC 8840).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// `a=ice-ufrag`, where given.
    pub ice_ufrag: Option<String>,
    /// The candidates with the mid of their section; the end of candidates is an empty one.
    pub candidates: Vec<(String, Option<String>)>,
}

/// A fragment makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// A line that is not `letter=value`.
    #[error("a line is not of the form `x=…`")]
    Line,
    /// More candidates than anybody has.
    #[error("there are more than {CANDIDATES_MAX} candidates in it")]
    TooMany,
    /// Nothing to act on.
    #[error("there is neither a candidate nor an end of candidates in it")]
    Empty,
}

impl OfferFacts {
    /// Reads what is needed of an offer; what makes no sense is left out.
    pub fn read(offer: &str) -> Self {
        Self { ice_ufrags: values(offer, "a=ice-ufrag:"), mids: values(offer, "a=mid:") }
    }

    /// Whether `ice_ufrag` is another than the offer's: the client restarts ICE.
    pub fn is_restart(&self, ice_ufrag: &str) -> bool {
        !self.ice_ufrags.iter().any(|ours| ours == ice_ufrag)
    }

    /// The candidate with the index of its section: as given, else by its mid, else the first.
    pub fn locate(
        &self,
        candidate: String,
        mid: Option<String>,
        mline_index: Option<u32>,
    ) -> Candidate {
        let by_mid = || {
            let position = self.mids.iter().position(|known| Some(known) == mid.as_ref())?;
            u32::try_from(position).ok()
        };
        let mline_index = mline_index.or_else(by_mid).unwrap_or(0);
        Candidate { candidate, mid, mline_index }
    }
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, FragmentError> {
        let mut fragment = Self::default();
        let mut mid = None;
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            let is_text = !line.contains(|c: char| c.is_control() && c != '\t');
            if line.as_bytes().get(1) != Some(&b'=') || !is_text {
                return Err(FragmentError::Line);
            }
            if line.starts_with("m=") {
                mid = None;
            } else if let Some(name) = line.strip_prefix("a=mid:") {
                mid = Some(name.to_owned());
            } else if let Some(ufrag) = line.strip_prefix("a=ice-ufrag:") {
                fragment.ice_ufrag = Some(ufrag.to_owned());
            } else if line.starts_with("a=candidate:") {
                fragment.candidates.push((line.split_at(2).1.to_owned(), mid.clone()));
            } else if line == "a=end-of-candidates" {
                fragment.candidates.push((String::new(), mid.clone()));
            }
            if fragment.candidates.len() > CANDIDATES_MAX {
                return Err(FragmentError::TooMany);
            }
        }
        if fragment.candidates.is_empty() && fragment.ice_ufrag.is_none() {
            return Err(FragmentError::Empty);
        }
        Ok(fragment)
    }
}

fn values(sdp: &str, prefix: &str) -> Vec<String> {
    let found = sdp.lines().filter_map(|line| line.trim_end().strip_prefix(prefix));
    found.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of RFC 8840, section 9, shortened.
    const EXAMPLE: &str = "a=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\n\
        m=audio 9 RTP/AVP 0\r\na=mid:1\r\n\
        a=candidate:1 1 UDP 1 192.0.2.3 5000 typ host\r\na=end-of-candidates\r\n";

    #[test]
    fn the_example_of_the_rfc_is_read() {
        let fragment = Fragment::parse(EXAMPLE).unwrap();
        assert_eq!(fragment.ice_ufrag.as_deref(), Some("8hhY"));
        let mid = Some("1".to_owned());
        let candidate = "candidate:1 1 UDP 1 192.0.2.3 5000 typ host".to_owned();
        assert_eq!(fragment.candidates, [(candidate, mid.clone()), (String::new(), mid)]);
    }

    #[test]
    fn a_fragment_with_too_many_candidates_is_refused_and_one_less_is_not() {
        let many = "a=candidate:1\r\n".repeat(CANDIDATES_MAX);
        assert_eq!(Fragment::parse(&many).unwrap().candidates.len(), CANDIDATES_MAX);
        let more = many + "a=candidate:1\r\n";
        assert_eq!(Fragment::parse(&more), Err(FragmentError::TooMany));
    }

    #[test]
    fn sections_are_found_by_index_then_by_mid() {
        let facts = OfferFacts::read("a=mid:audio\r\na=ice-ufrag:x\r\na=mid:video\r\n");
        let index =
            |mid: &str, given| facts.locate("c".into(), Some(mid.into()), given).mline_index;
        assert_eq!(
            (index("video", None), index("nosuch", None), index("audio", Some(7))),
            (1, 0, 7)
        );
        assert!(facts.is_restart("y") && !facts.is_restart("x"));
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_reader(text in ".{0,400}") {
            let _ = Fragment::parse(&text);
            let _ = OfferFacts::read(&text);
        }
    }
}
