//! The list of scenarios in which node agents lose or double lines, as tests: the real binary of the
//! agent on real files, and a collector that fails as it is told.
//!
//! `cargo test -p taffrail-sim --test it scenarios -- --nocapture` prints a line for each row;
//! `docs/scenarios.md` has the table. Rows that need what this machine does not give (root, a mount)
//! say so and pass.

mod crash;
mod discovery;
mod rotation;
mod suite;
mod truncation;
mod world;

use suite::{Row, verdict};

/// The table, and a test for each of its rows.
macro_rules! rows {
    ($($room:ident :: $name:ident $id:literal $what:literal;)*) => {
        /// All rows, in the order of the list.
        const ROWS: &[Row] = &[$(Row {
            name: stringify!($name),
            id: $id,
            what: $what,
            run: |world| Box::pin($room::$name(world)),
        }),*];
        $(
            #[test]
            fn $name() {
                verdict(stringify!($name));
            }
        )*
    };
}

rows! {
    rotation::r1_rename_create "R1" "five rotations, a second apart";
    rotation::r2_two_rotations_between_looks "R2" "two rotations without a pause";
    rotation::r3_compressed_while_the_sink_is_away "R3" "four rotations with compression, collector away";
    rotation::r4_burst_rotated_at_once "R4" "a burst, rotated at once and compressed";
    rotation::r5_rotated_while_down "R5" "agent stopped, one rotation";
    rotation::r6_two_rotations_while_down "R6" "agent stopped, two rotations, the older compressed";
    rotation::r7_pieces_across_a_rotation "R7" "the pieces of a line on both sides of a rotation";
    rotation::r8_renamed_and_back "R8" "renamed and back: the runtime could not reopen";
    rotation::r9_writer_stays_with_the_renamed "R9" "the writer stays with the renamed file for 5 s";
    rotation::r11_temporary_file_of_compression "R11" "compression seen in its middle";
    rotation::r12_twenty_rotations_two_files "R12" "twenty rotations, two files kept";
    rotation::r13_unreadable_after_logrotate "R13" "a new file that cannot be read at first";
    rotation::r14_sink_unavailable_and_rotated "R14" "collector unavailable, 8 MB at once, rotated";
    truncation::t1_truncated_with_an_equal_head "T1" "truncated, the same head, more than before";
    truncation::t2_truncated_and_shorter "T2" "truncated, the same head, less than before";
    truncation::t3_hole_of_a_writer_without_append "T3" "truncated under a writer without O_APPEND: a hole";
    truncation::t4_sparse_terabyte "T4" "a hole of a terabyte";
    truncation::t5_unlinked_and_made_again "T5" "unlinked and made again under the same name";
    truncation::t6_inode_reused_while_down "T6" "agent stopped, the inode given to a new log";
    truncation::t7_equal_heads "T7" "two files with equal first 4 KiB";
    truncation::t8_five_bytes_then_the_rest "T8" "five bytes without an end, completed later";
    truncation::t9_small_file_that_never_grows "T9" "a file of 300 bytes that never grows";
    truncation::t10_two_names_for_one_file "T10" "a hard link and a symbolic link to the same file";
    truncation::t11_copy_beside "T11" "a copy of the log beside it";
    truncation::t12_two_logs_swap_names "T12" "two logs swap their names";
    crash::c1_killed_after_delivery "C1" "SIGKILL right after delivery";
    crash::c2_killed_with_full_buffers "C2" "collector unavailable, SIGKILL, collector back";
    crash::c3_two_hundred_kills "C3" "200 SIGKILLs at random moments, lines all the while";
    crash::c7_state_folder_deleted "C7" "the state folder deleted under the running agent";
    crash::c8_two_agents_one_folder "C8" "two agents on one state folder";
    crash::c9_ends_in_time_with_a_backlog "C9" "SIGTERM with a backlog";
    crash::c10_stop_write_start "C10" "stop, write, start";
    discovery::d1_pods_that_live_a_second "D1" "five pods that live a second each";
    discovery::d2_pod_deleted_while_the_sink_is_away "D2" "a pod writes 4 MB and is deleted, collector away";
    discovery::d3_two_thousand_files "D3" "2,000 files, two lines each";
    discovery::d4_five_hundred_pods_at_once "D4" "500 pods at once";
    discovery::d5_crash_loop "D5" "twenty restarts of a container";
    discovery::d6_files_from_before "D6" "files that were there before the first start";
    discovery::d7_no_inotify_watches "D7" "no inotify watches to be had";
    discovery::d8_event_queue_overflows "D8" "the queue of inotify overflows";
    discovery::d9_few_descriptors "D9" "64 descriptors, 300 files";
    discovery::d10_root_is_a_link_to_nowhere "D10" "/var/log/pods leads to what is not mounted";
    discovery::d11_folders_fifos_sockets_devices "D11" "folders, FIFOs, sockets, devices with names of logs";
    discovery::d12_many_files_in_one_folder "D12" "20,000 files in a folder, ten of them written";
    discovery::d13_unreadable_for_a_while "D13" "no right to read for a while";
    discovery::d14_odd_names "D14" "spaces, newlines, bytes that are no text, 255 bytes";
    discovery::d15_idle_for_a_day "D15" "a file idle for a day, then one line";
}
