//! Slopes, and how sure they are.
//!
//! Least squares through the medians of blocks of samples, on a few regressors at once (live sessions,
//! camera restarts, joins, hours). Neighbouring blocks resemble each other: what is left over in one
//! is in part still there in the next, memory above all. Ordinary least squares would be far too sure
//! of itself then, so each block has that part of the one before taken off, with the autocorrelation
//! of the residuals as the part (Cochrane and Orcutt 1949, Application of least squares regression to
//! relationships containing auto-correlated error terms, J. Am. Stat. Assoc. 44, 32-61). What
//! autocorrelation stays after that lowers the number of independent blocks to `n (1 - r) / (1 + r)`
//! (Santer et al. 2000, J. Geophys. Res. 105, 7337-7356, equation 6).

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Blocks that a series is cut into. Each is a point of the line.
const BLOCKS: usize = 40;

/// Fewer independent blocks than regressors and these tell nothing.
const FREEDOM_MIN: f64 = 1.0;

/// How often the likeness of neighbours is estimated anew; it settles in a few rounds.
const ROUNDS: usize = 8;

/// With all of the one before taken off, nothing would be left of what rises steadily.
const LIKENESS_MAX: f64 = 0.95;

/// Regressors that go together more closely than this are one. Below it, the confidence intervals
/// say how well they can be told apart.
const CORRELATION_MAX: f64 = 0.9999;

/// A slope with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Slope {
    /// The best estimate.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Fits `value = a + b1 x1 + b2 x2 ...` to `points` of `(regressors, value)`: the slope by each
/// regressor, `None` for one that does not change, or not apart from one before it. `None` where
/// there are too few points to say anything.
pub fn fit(points: &[(Vec<f64>, f64)]) -> Option<Vec<Option<Slope>>> {
    let blocks = blocks(points);
    let count = blocks.first()?.0.len();
    let columns: Vec<Vec<f64>> = (0..count)
        .map(|index| blocks.iter().map(|(regressors, _)| regressors[index]).collect())
        .collect();
    let values: Vec<f64> = blocks.iter().map(|(_, value)| *value).collect();
    let used = apart(&columns);
    let chosen: Vec<&[f64]> = used.iter().map(|&index| &*columns[index]).collect();
    let found = solve(&chosen, &values)?;
    let mut slopes = vec![None; count];
    for (index, slope) in used.into_iter().zip(found) {
        slopes[index] = Some(slope);
    }
    Some(slopes)
}

/// The medians of consecutive blocks of about equal size.
fn blocks(points: &[(Vec<f64>, f64)]) -> Vec<(Vec<f64>, f64)> {
    let size = points.len().div_ceil(BLOCKS).max(1);
    let block = |block: &[(Vec<f64>, f64)]| {
        let count = block.first().map_or(0, |(regressors, _)| regressors.len());
        let regressor = |index| median(block.iter().map(|(regressors, _)| regressors[index]));
        ((0..count).map(regressor).collect(), median(block.iter().map(|(_, value)| *value)))
    };
    points.chunks(size).map(block).collect()
}

/// The middle one of some values.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    values.iter().map(|value| value - mean).collect()
}

/// The regressors that change, and not merely as an earlier one does.
fn apart(columns: &[Vec<f64>]) -> Vec<usize> {
    let columns: Vec<Vec<f64>> = columns.iter().map(|column| centred(column)).collect();
    let mut used: Vec<usize> = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let along = dot(column, column);
        let like = |&other: &usize| {
            let other = &columns[other];
            dot(column, other).abs() > CORRELATION_MAX * (along * dot(other, other)).sqrt()
        };
        if along > 0.0 && !used.iter().any(like) {
            used.push(index);
        }
    }
    used
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The slopes, after the part of each block that is left over from the one before is taken off.
fn solve(columns: &[&[f64]], values: &[f64]) -> Option<Vec<Slope>> {
    let mut alike = 0.0;
    for _ in 0..ROUNDS {
        let line = line(&without(columns, alike), &centred(&rest(values, alike)))?;
        let columns: Vec<Vec<f64>> = columns.iter().map(|column| centred(column)).collect();
        alike = likeness(&residuals(&columns, &centred(values), &line.estimates)).min(LIKENESS_MAX);
    }
    let (columns, values) = (without(columns, alike), centred(&rest(values, alike)));
    let line = line(&columns, &values)?;
    let residuals = residuals(&columns, &values, &line.estimates);
    let left = likeness(&residuals);
    let independent = values.len() as f64 * (1.0 - left) / (1.0 + left);
    let freedom = independent - columns.len() as f64 - 1.0;
    if freedom < FREEDOM_MIN {
        return None;
    }
    let quantile = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(0.975);
    let variance = dot(&residuals, &residuals) / freedom;
    let slopes = line.estimates.iter().enumerate().map(|(index, &value)| {
        let margin = quantile * (variance * line.inverse[index][index]).sqrt();
        Slope { value, low: value - margin, high: value + margin }
    });
    Some(slopes.collect())
}

/// Ordinary least squares.
struct Line {
    estimates: Vec<f64>,
    inverse: Vec<Vec<f64>>,
}

/// Of centred values on centred regressors.
fn line(columns: &[Vec<f64>], values: &[f64]) -> Option<Line> {
    if values.len() <= columns.len() {
        return None;
    }
    let inverse = inverse(columns)?;
    let along: Vec<f64> = columns.iter().map(|column| dot(column, values)).collect();
    Some(Line { estimates: inverse.iter().map(|row| dot(row, &along)).collect(), inverse })
}

/// What a line leaves over.
fn residuals(columns: &[Vec<f64>], values: &[f64], estimates: &[f64]) -> Vec<f64> {
    let explained =
        |at: usize| columns.iter().zip(estimates).map(|(x, slope)| x[at] * slope).sum::<f64>();
    values.iter().enumerate().map(|(at, value)| value - explained(at)).collect()
}

/// The lag-1 autocorrelation; none below zero.
fn likeness(residuals: &[f64]) -> f64 {
    let squares = dot(residuals, residuals);
    match residuals.split_first() {
        Some((_, later)) if squares > 0.0 => (dot(later, residuals) / squares).clamp(0.0, 0.99),
        _ => 0.0,
    }
}

/// Each value without that part of the one before.
fn rest(values: &[f64], part: f64) -> Vec<f64> {
    values.windows(2).map(|pair| pair[1] - part * pair[0]).collect()
}

fn without(columns: &[&[f64]], part: f64) -> Vec<Vec<f64>> {
    columns.iter().map(|column| centred(&rest(column, part))).collect()
}

/// The inverse of the regressors' products with each other, by Gauss and Jordan. They are few, and
/// none is like another, so the pivots are the diagonal as it comes.
fn inverse(columns: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    let count = columns.len();
    let mut rows: Vec<Vec<f64>> = (0..count)
        .map(|row| {
            let products = columns.iter().map(|column| dot(&columns[row], column));
            let identity = (0..count).map(|column| if row == column { 1.0 } else { 0.0 });
            products.chain(identity).collect()
        })
        .collect();
    for pivot in 0..count {
        let size = rows[pivot][pivot];
        if size <= 0.0 {
            return None;
        }
        rows[pivot].iter_mut().for_each(|entry| *entry /= size);
        let own = rows[pivot].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(index, _)| *index != pivot) {
            let factor = row[pivot];
            row.iter_mut().zip(&own).for_each(|(entry, own)| *entry -= factor * own);
        }
    }
    Some(rows.into_iter().map(|row| row[count..].to_vec()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test: a panic is how it fails")]

    use super::*;

    /// Noise that remembers: each value is half the one before and something new.
    fn noise(seed: u64) -> impl FnMut() -> f64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut last = 0.0;
        move || {
            last = 0.5 * last + random.f64() - 0.5;
            last
        }
    }

    #[test]
    fn slopes_by_three_regressors_are_told_apart_and_within_their_intervals() {
        let mut held = 0;
        for seed in 0..100 {
            let mut noise = noise(seed);
            let (mut joins, mut points) = (0.0, Vec::new());
            let mut random = fastrand::Rng::with_seed(seed);
            for second in 0..1_200 {
                // Visitors come for a minute, and stay away for one.
                joins += if second / 60 % 2 == 0 { 2.0 } else { 0.0 };
                let hours = f64::from(second) / 3600.0;
                // What those hold who are there comes and goes with them.
                let sessions = if second / 60 % 2 == 0 { 9.0 } else { 0.0 } + random.f64();
                let value = 7.0 + 80.0 * sessions + 3.0 * joins + 500.0 * hours + 20.0 * noise();
                points.push((vec![sessions, joins, hours], value));
            }
            let fit = fit(&points).unwrap();
            let [Some(by_session), Some(by_join), Some(by_hour)] = fit[..] else {
                panic!("{fit:?}")
            };
            assert!((by_session.value - 80.0).abs() < 2.0, "{by_session:?}");
            assert!((by_join.value - 3.0).abs() < 0.5, "{by_join:?}");
            held += u32::from(by_join.low <= 3.0 && 3.0 <= by_join.high);
            held += u32::from(by_hour.low <= 500.0 && 500.0 <= by_hour.high);
        }
        // 95 % of 200, less what chance takes.
        assert!(held >= 180, "{held} of 200 intervals hold the truth");
    }

    #[test]
    fn a_random_walk_is_seldom_taken_for_a_slope() {
        let mut sure = 0;
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut value = 0.0;
            let walk: Vec<_> = (0..600)
                .map(|at| {
                    value += random.f64() - 0.5;
                    (vec![f64::from(at)], value)
                })
                .collect();
            let Some(fit) = fit(&walk) else { continue };
            let slope = fit[0].unwrap();
            sure += u32::from(slope.low > 0.0 || slope.high < 0.0);
        }
        // A walk looks like a slope for a while, to the best of eyes. A verdict asks for more than
        // a slope: that it leads somewhere.
        assert!(sure <= 45, "{sure} of 100 walks without a drift are called a slope");
    }

    #[test]
    fn what_does_not_change_or_goes_with_another_has_no_slope_of_its_own() {
        let still: Vec<_> = (0..100).map(|at| (vec![0.0, f64::from(at)], 5.0)).collect();
        let slopes = fit(&still).unwrap();
        assert_eq!(slopes[0], None);
        assert_eq!(slopes[1].unwrap().value, 0.0);
        let together: Vec<_> =
            (0..100).map(|at| (vec![f64::from(at), f64::from(at) * 3.0], f64::from(at))).collect();
        let slopes = fit(&together).unwrap();
        assert!((slopes[0].unwrap().value - 1.0).abs() < 1e-9);
        assert_eq!(slopes[1], None);
        assert_eq!(fit(&still[..2]), None);
        assert_eq!(fit(&[]), None);
    }
}
