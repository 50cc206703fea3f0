//! What a Markdown file tells its reader to type.

/// A line of a fenced `sh` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is typed.
    pub command: String,
    /// What stands behind ` # `; empty if nothing does.
    pub comment: String,
}

/// The texts of the fenced blocks of a language.
pub fn blocks(markdown: &str, language: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let (mut inside, mut wanted) = (false, false);
    for line in markdown.lines() {
        if let Some(info) = line.strip_prefix("```") {
            wanted = !inside && info.trim() == language;
            inside = !inside;
            if wanted {
                blocks.push(String::new());
            }
        } else if let Some(block) = blocks.last_mut().filter(|_| wanted) {
            block.push_str(line);
            block.push('\n');
        }
    }
    blocks
}

/// The lines of all `sh` blocks, in their order.
pub fn lines(markdown: &str) -> Vec<Line> {
    let blocks = blocks(markdown, "sh");
    let lines = blocks.iter().flat_map(|block| block.lines()).filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (command, comment) = line.split_once(" # ").unwrap_or((line, ""));
            Line { command: command.trim().to_owned(), comment: comment.trim().to_owned() }
        })
        .collect()
}

impl Line {
    /// What the command prints, where the comment begins with a number: `7`, or `7: a sum`.
    pub fn output(&self) -> Option<&str> {
        let (first, _) = self.comment.split_once(':').unwrap_or((&self.comment, ""));
        first.parse::<i64>().is_ok().then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a\n```sh\n./run      # starts it\n\ncurl x/add/3/4  # 7: a sum\n```\n```toml\na = 1 # 2\n```\n\
                        ```sh\nls -d '#'\n```\n";

    #[test]
    fn only_blocks_of_the_language_are_taken() {
        assert_eq!(blocks(TEXT, "toml"), ["a = 1 # 2\n"]);
        let commands: Vec<_> = lines(TEXT).into_iter().map(|line| line.command).collect();
        assert_eq!(commands, ["./run", "curl x/add/3/4", "ls -d '#'"]);
    }

    #[test]
    fn a_number_in_a_comment_is_what_is_printed() {
        let outputs: Vec<_> = lines(TEXT).iter().map(|line| line.output().map(str::to_owned)).collect();
        assert_eq!(outputs, [None, Some("7".to_owned()), None]);
    }
}
