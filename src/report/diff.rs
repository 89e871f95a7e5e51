//! The difference of two texts as a unified diff.
//!
//! It is built from one algorithm: `similar::TextDiff` brings all of them into the program, a quarter of a megabyte. Pure.

use similar::{
    DiffableStr,
    algorithms::{Capture, Compact, Replace, myers},
    group_diff_ops,
    udiff::UnifiedHunkHeader,
};

/// Unchanged lines around each change.
const CONTEXT: usize = 3;

/// Empty where the texts are the same; `names` stand at the top.
pub fn unified(old: &str, new: &str, names: (&str, &str)) -> String {
    let (old, new) = (old.tokenize_lines(), new.tokenize_lines());
    let mut hook = Compact::new(Replace::new(Capture::new()), &old[..], &new[..]);
    let Ok(()) = myers::diff(&mut hook, &old[..], 0..old.len(), &new[..], 0..new.len());
    let ops = hook.into_inner().into_inner().into_ops();
    let hunks = group_diff_ops(ops, CONTEXT).into_iter();
    let mut text = String::new();
    for hunk in hunks.filter(|own| !own.is_empty()) {
        if text.is_empty() {
            text = format!("--- {}\n+++ {}\n", names.0, names.1);
        }
        text += &format!("{}\n", UnifiedHunkHeader::new(&hunk));
        let changes = hunk
            .iter()
            .flat_map(|own| own.iter_changes(&old[..], &new[..]));
        for change in changes {
            let line: &str = change.value();
            text += &format!("{}{line}", change.tag());
            if !line.ends_with_newline() {
                text += "\n\\ No newline at end of file\n";
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};
    use similar::TextDiff;

    use super::*;

    #[test]
    fn a_change_stands_between_the_lines_around_it() {
        let old = "a\nb\nc\nd\ne\nf\n";
        let new = "a\nb\nc\nd\nE\nf";
        let text = unified(old, new, ("x", "y"));
        let wanted = "--- x\n+++ y\n@@ -2,5 +2,5 @@\n b\n c\n d\n-e\n-f\n+E\n+f\n\\ No newline at end of file\n";
        assert_eq!(text, wanted);
        assert_eq!(unified(old, old, ("x", "y")), "");
    }

    fn texts() -> impl Strategy<Value = String> {
        let line = select(&["a\n", "b\n", "c\r\n", "\n", "d"][..]);
        vec(line, 0..200).prop_map(|lines| lines.concat())
    }

    proptest! {
        #[test]
        fn it_is_what_a_diff_by_the_whole_of_similar_is(old in texts(), new in texts()) {
            let diff = TextDiff::from_lines(&old, &new);
            let wanted = diff.unified_diff().header("x", "y").to_string();
            prop_assert_eq!(unified(&old, &new, ("x", "y")), wanted);
        }
    }
}
