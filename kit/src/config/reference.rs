//! The page of all settings of a program, made from its table: what `--help` says, for a browser.

use std::fmt::Write;

use super::{Schema, flag};

impl Schema {
    /// A section in Markdown: a heading, and tables of the settings and of the sections of the file.
    #[must_use]
    pub fn reference(&self) -> String {
        let mut page = String::new();
        self.write_reference(&mut page).expect("writing to a string does not fail");
        page
    }

    fn write_reference(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "## `{}`\n\n{}\n", self.program, cell(self.about))?;
        writeln!(page, "| flag | key | environment | value | default | what it is |")?;
        writeln!(page, "|---|---|---|---|---|---|")?;
        let env = self.env_name("config");
        writeln!(page, "| `--config` |  | `{env}` | PATH |  | File with settings in YAML |")?;
        for (flag, value, what) in [
            (
                "--check",
                "PATH",
                "Check the settings (and this file), say all that is wrong, and end",
            ),
            ("--print-config", "", "Print the settings in effect and where each is from, and end"),
        ] {
            writeln!(page, "| `{flag}` |  |  | {value} |  | {what} |")?;
        }
        for setting in self.settings {
            let default = match setting.default {
                Some(default) => format!("`{}`", cell(default)),
                None if setting.required => "required".to_owned(),
                None => String::new(),
            };
            writeln!(
                page,
                "| `{}` | `{}` | `{}` | {} | {default} | {} |",
                flag(setting.key),
                setting.key,
                self.env_name(setting.key),
                setting.kind.placeholder(),
                cell(setting.help),
            )?;
        }
        if !self.sections.is_empty() {
            writeln!(page, "\n| only in the file | what it is |\n|---|---|")?;
            for section in self.sections {
                writeln!(page, "| `{}` | {} |", section.key, cell(section.help))?;
            }
        }
        Ok(())
    }
}

/// Text that does not end the cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use crate::config::{Kind, Schema, Section, Setting};

    #[test]
    fn every_setting_and_section_has_its_row() {
        let schema = Schema {
            program: "prog",
            about: "Does things.",
            env_prefix: "PROG",
            settings: &[
                Setting {
                    key: "data_dir",
                    kind: Kind::Path,
                    default: None,
                    required: true,
                    help: "a|b",
                },
                Setting {
                    key: "a.wait",
                    kind: Kind::Duration,
                    default: Some("2m"),
                    required: false,
                    help: "How long",
                },
            ],
            sections: &[Section { key: "a.list", help: "A list" }],
        };
        let page = schema.reference();
        for row in [
            "## `prog`\n\nDoes things.\n",
            "| `--config` |  | `PROG_CONFIG` | PATH |  | File with settings in YAML |\n",
            "| `--data-dir` | `data_dir` | `PROG_DATA_DIR` | PATH | required | a\\|b |\n",
            "| `--a-wait` | `a.wait` | `PROG_A_WAIT` | DURATION | `2m` | How long |\n",
            "| `a.list` | A list |\n",
        ] {
            assert!(page.contains(row), "{row} in\n{page}");
        }
    }
}
