//! What reports' pages share.

use std::fs;
use std::io;
use std::path::Path;

/// The look of a report's page.
pub const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:100rem;\
    padding:0 1rem;color:#222;background:#fff}h1{font-size:1.4rem}h2{font-size:1.1rem;\
    margin-top:1.6rem}.findings{list-style:none;padding:0}.findings li{margin:.15rem 0}\
    .holds,.unclear,.broken{display:inline-block;min-width:4.2rem;text-align:center;\
    border-radius:.3rem;padding:0 .5rem;color:#fff;font-size:.85em}.holds{background:#1a7f37}\
    .unclear{background:#7a6200}.broken{background:#b3261e}.plots{display:flex;flex-wrap:wrap;\
    gap:.6rem}.plots svg{border:1px solid #ddd;max-width:100%;height:auto}\
    td{padding:.1rem .8rem .1rem 0;vertical-align:top}.number{text-align:right;\
    font-variant-numeric:tabular-nums}.problem{font-family:monospace;font-size:.85em}";

/// Writes a file so that there is the old one or the new one, and never half of one.
///
/// # Errors
/// Where it cannot be written.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    fs::rename(new, path)
}

/// Text as it stands in a page, between tags or in an attribute.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
