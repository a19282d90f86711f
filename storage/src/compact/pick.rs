//! Which files are merged next.

use weir_model::limits;

use crate::DataFile;
use crate::files::{FileName, Kind};

/// Files of a day that is not over are merged from so many on.
const AT_LEAST: usize = 8;
/// Files that are merged at once, at most: each has a batch, its pages and its dictionaries in memory, about 5 MiB. What a
/// server flushes under full load makes a file of half of the largest size of so many.
const AT_MOST: usize = 32;

/// The largest run of neighbours, in the order of the write-ahead log and within one day, all of them sampled or
/// none, that is worth merging. `today` is the first day that is not over.
pub(super) fn pick(all: &[DataFile], today: i32) -> Option<Vec<DataFile>> {
    let mut ordered: Vec<(&DataFile, FileName)> =
        all.iter().filter_map(|file| Some((file, FileName::of(&file.path)?))).collect();
    ordered.sort_by_key(|(file, name)| (file.date, name.writes));
    let is_sampled = |name: FileName| name.kind == Kind::Sampled;
    let mut best: Option<&[(&DataFile, FileName)]> = None;
    for start in 0..ordered.len() {
        let (DataFile { date, .. }, first) = ordered[start];
        let mut bytes = 0;
        let mut largest = 0;
        for end in start..ordered.len().min(start + AT_MOST) {
            let (file, name) = ordered[end];
            bytes += file.size;
            largest = file.size.max(largest);
            let is_small = file.size < limits::COMPACTED_FILE_BYTES / 2;
            let mixes = file.date != *date || is_sampled(name) != is_sampled(first);
            if mixes || !is_small || bytes > limits::COMPACTED_FILE_BYTES {
                break;
            }
            let run = &ordered[start..=end];
            let worth =
                if *date < today { run.len() >= 2 } else { run.len() >= AT_LEAST && largest * 2 <= bytes };
            if worth && best.is_none_or(|best| run.len() > best.len()) {
                best = Some(run);
            }
        }
    }
    best.map(|run| run.iter().map(|(file, _)| (*file).clone()).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn file(date: i32, through: u64, size: u64) -> DataFile {
        let path = format!("/t/date=x/{}", FileName::flushed(through, 1)).into();
        DataFile { path, size, rows: 1, date, bounds: Arc::default() }
    }

    fn picked(files: &[DataFile], today: i32) -> Vec<u64> {
        let inputs = pick(files, today).unwrap_or_default();
        inputs.iter().filter_map(|file| Some(FileName::of(&file.path)?.writes.1)).collect()
    }

    #[test]
    fn a_day_under_way_waits_for_eight_files_of_like_size() {
        let files: Vec<_> = (1..8).map(|n| file(5, n, 1000)).collect();
        assert!(pick(&files, 5).is_none());
        let files: Vec<_> = (1..=8).map(|n| file(5, n, 1000)).collect();
        assert_eq!(picked(&files, 5), (1..=8).collect::<Vec<_>>());
        let mut files = vec![file(5, 1, 1_000_000)];
        files.extend((2..9).map(|n| file(5, n, 1000)));
        assert!(pick(&files, 5).is_none(), "the large one would hardly grow");
        files.push(file(5, 9, 1000));
        assert_eq!(picked(&files, 5), (2..=9).collect::<Vec<_>>(), "the large one stays as it is");
    }

    #[test]
    fn a_day_that_is_over_is_merged_whatever_is_left() {
        let files = [file(4, 1, 1_000_000), file(4, 2, 10), file(5, 3, 10)];
        assert_eq!(picked(&files, 5), [1, 2]);
        assert!(pick(&files[1..], 5).is_none(), "days do not mix");
    }

    #[test]
    fn large_files_are_left_alone_and_outputs_are_bounded() {
        let large = limits::COMPACTED_FILE_BYTES / 2;
        assert!(pick(&[file(4, 1, large), file(4, 2, large)], 5).is_none());
        let files: Vec<_> = (1..=200).map(|n| file(4, n, 10)).collect();
        assert_eq!(picked(&files, 5).len(), AT_MOST);
        let files: Vec<_> = (1..=10).map(|n| file(4, n, large / 2)).collect();
        assert_eq!(picked(&files, 5).len(), 4);
    }

    #[test]
    fn what_was_sampled_does_not_mix_with_what_was_not() {
        let mut files: Vec<_> = (1..=4).map(|n| file(4, n, 10)).collect();
        for (n, file) in files.iter_mut().enumerate().take(2) {
            let name = FileName { writes: (n as u64, n as u64), kind: Kind::Sampled, epoch: 1, checksum: 0 };
            file.path = format!("/t/date=x/{name}").into();
        }
        assert_eq!(picked(&files, 5), [0, 1]);
        assert_eq!(picked(&files[1..], 5), [3, 4]);
        assert!(pick(&files[1..3], 5).is_none());
    }

    #[test]
    fn merged_files_take_the_place_of_their_inputs_in_the_order() {
        let mut files: Vec<_> = (1..=3).map(|n| file(4, n * 10, 10)).collect();
        files[0].path = format!("/t/{}", FileName::merged(1, 9, 1)).into();
        assert_eq!(picked(&files, 5), [9, 20, 30]);
        files[0].path = "/t/part-0001-somebody-elses.parquet".into();
        assert_eq!(picked(&files, 5), [20, 30], "files of others are left alone");
    }
}
