//! Single changes of a text.

use super::{super::tree::parse, *};

#[test]
fn of_several_additions_at_one_place_the_deepest_comes_first() {
    let mut editor = Editor::new("a:\n  b: 1");
    editor.append(8, 0, &["d: 2".to_owned()], 0);
    editor.append(8, 2, &["c:".to_owned(), "  e: 3".to_owned()], 1);
    assert_eq!(editor.finish(), "a:\n  b: 1\n  c:\n    e: 3\nd: 2");
}

#[test]
fn comments_as_deep_as_a_block_belong_to_it() {
    let text = "a:\n  b: 1\n  # of a\n# of c\nc: 2\n";
    let root = parse(text).unwrap();
    let mut editor = Editor::new(text);
    let entry = root.entry("a").unwrap();
    editor.add(entry, &Addition::entry("z", "0"), 1).unwrap();
    assert_eq!(
        editor.finish(),
        "a:\n  b: 1\n  # of a\n  z: 0\n# of c\nc: 2\n"
    );
}

#[test]
fn an_element_is_removed_with_its_dash_or_its_comma() {
    for (index, wanted) in [(0, "a: [y, z]\n"), (1, "a: [x, z]\n"), (2, "a: [x, y]\n")] {
        let text = "a: [x, y, z]\n";
        let root = parse(text).unwrap();
        let mut editor = Editor::new(text);
        editor
            .remove_item(root.get("a").unwrap(), index, 1)
            .unwrap();
        assert_eq!(editor.finish(), wanted);
    }
    let text = "a:\n- x # one\n# two\n-   y\n- k: 1\n  l: 2\n";
    let root = parse(text).unwrap();
    let mut editor = Editor::new(text);
    for index in [0, 2] {
        editor
            .remove_item(root.get("a").unwrap(), index, 1)
            .unwrap();
    }
    assert_eq!(editor.finish(), "a:\n# two\n-   y\n");
}
