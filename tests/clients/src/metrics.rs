//! Reading what `/metrics` says.

use std::collections::BTreeMap;

/// One scrape of the Prometheus text format.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Exposition {
    /// Reads a scrape. Lines that are no sample are comments and left out.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self { samples: lines.filter_map(Sample::parse).collect() }
    }

    /// Sum of every sample of `name` that carries all of `labels`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// Whether there is any sample of `name`.
    pub fn has(&self, name: &str) -> bool {
        self.matching(name, &[]).next().is_some()
    }

    /// The values of `name` by the value of its label `by`.
    pub fn by(&self, name: &str, by: &str) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        for sample in self.matching(name, &[]) {
            let key = sample.labels.get(by).cloned().unwrap_or_default();
            *values.entry(key).or_insert(0.0) += sample.value;
        }
        values
    }

    /// Upper bound of the bucket in which the `q`-quantile of a histogram lies, in its own unit,
    /// counting only what came after `earlier`. `None` where nothing came.
    pub fn quantile(
        &self,
        earlier: &Self,
        name: &str,
        labels: &[(&str, &str)],
        q: f64,
    ) -> Option<f64> {
        let bucket = format!("{name}_bucket");
        let before = earlier.buckets(&bucket, labels);
        let counts: Vec<(f64, f64)> = self
            .buckets(&bucket, labels)
            .into_iter()
            .map(|(le, count)| {
                let old = before.iter().find(|(bound, _)| *bound == le).map_or(0.0, |old| old.1);
                (le, count - old)
            })
            .collect();
        let total = counts.last()?.1;
        let found = counts.iter().find(|(_, count)| *count >= q * total);
        found.filter(|_| total > 0.0).map(|(le, _)| *le)
    }

    fn buckets(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.matching(name, labels) {
            let le = sample.labels.get("le").map_or(f64::INFINITY, |text| match text.as_str() {
                "+Inf" => f64::INFINITY,
                number => number.parse().unwrap_or(f64::INFINITY),
            });
            match buckets.iter_mut().find(|(bound, _)| *bound == le) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((le, sample.value)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
        })
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let (left, value) = line.rsplit_once(' ')?;
        let value = value.parse().ok()?;
        let Some((name, labels)) = left.split_once('{') else {
            return Some(Self { name: left.into(), labels: BTreeMap::new(), value });
        };
        let pairs = labels.strip_suffix('}')?.split("\",");
        let labels = pairs.filter_map(|pair| {
            let (key, value) = pair.split_once("=\"")?;
            Some((key.to_owned(), value.trim_end_matches('"').to_owned()))
        });
        Some(Self { name: name.into(), labels: labels.collect(), value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a b\na{x=\"1\",y=\"two, three\"} 4\na{x=\"2\",y=\"\"} 5\nplain 6.5\n\
        h_bucket{le=\"0.1\"} 90\nh_bucket{le=\"1\"} 99\nh_bucket{le=\"+Inf\"} 100\n";

    #[test]
    fn samples_are_found_by_name_and_label() {
        let exposition = Exposition::parse(TEXT);
        assert_eq!(exposition.sum("a", &[]), 9.0);
        assert_eq!(exposition.sum("a", &[("y", "two, three")]), 4.0);
        assert_eq!(exposition.sum("plain", &[]), 6.5);
        assert_eq!(exposition.by("a", "x").len(), 2);
        assert!(!exposition.has("b"));
    }

    #[test]
    fn a_histogram_s_quantile_is_a_bound_of_its_buckets() {
        let nothing = Exposition::default();
        let exposition = Exposition::parse(TEXT);
        assert_eq!(exposition.quantile(&nothing, "h", &[], 0.5), Some(0.1));
        assert_eq!(exposition.quantile(&nothing, "h", &[], 0.99), Some(1.0));
        assert_eq!(exposition.quantile(&exposition, "h", &[], 0.5), None);
    }
}
