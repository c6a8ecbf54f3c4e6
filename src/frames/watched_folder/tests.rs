//! Folders that are written to while they are watched.

use super::*;

fn save(folder: &Path, name: &str, shade: u8) {
    RgbImage::from_pixel(8, 8, image::Rgb([shade; 3]))
        .save(folder.join(name))
        .unwrap();
}

fn picture(folder: &mut WatchedFolder) -> (u8, String) {
    match folder.next(&|| false).unwrap() {
        Arrival::Picture(picture, path) => {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (picture.get_pixel(0, 0)[0], name)
        }
        Arrival::Unusable(error) => panic!("{error}"),
        Arrival::Replaced(_) => picture(folder),
        Arrival::Stopped => panic!("nobody asked to stop"),
    }
}

#[test]
fn new_pictures_come_once_and_old_ones_never_whether_the_system_tells_or_not() {
    for told in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), "old.png", 1);
        let changes = Changes::of(dir.path()).filter(|_| told);
        assert_eq!(changes.is_some(), told && cfg!(target_os = "linux"));
        new_pictures_come_once(
            WatchedFolder::with_changes(dir.path(), changes, &|| ()).unwrap(),
            &dir,
        );
    }
}

fn new_pictures_come_once(mut folder: WatchedFolder, dir: &tempfile::TempDir) {
    assert_eq!(folder.left_alone(), 1);
    fs::write(dir.path().join("notes.txt"), "no picture").unwrap();
    save(dir.path(), "b.png", 2);
    assert_eq!(picture(&mut folder), (2, "b.png".into()));
    save(dir.path(), "a.png", 3);
    assert_eq!(picture(&mut folder), (3, "a.png".into()));
    assert!(matches!(folder.next(&|| true).unwrap(), Arrival::Stopped));
    // Written anew, a file is a new picture.
    fs::remove_file(dir.path().join("b.png")).unwrap();
    assert!(matches!(folder.next(&|| true).unwrap(), Arrival::Stopped));
    save(dir.path(), "b.png", 4);
    assert_eq!(picture(&mut folder), (4, "b.png".into()));
}

/// The system tells of changes by paths from the top, and a folder that was named from here heard of none of them.
#[test]
fn a_folder_that_is_named_from_here_hears_of_changes() {
    let dir = tempfile::tempdir().unwrap();
    let here = std::env::current_dir().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    let path = up.join(dir.path().strip_prefix("/").unwrap());
    let mut folder = WatchedFolder::new(&path, &|| ()).unwrap();
    let told = folder.changes.is_some();
    let begun = Instant::now();
    save(dir.path(), "a.png", 5);
    assert_eq!(picture(&mut folder), (5, "a.png".into()));
    assert!(
        !told || begun.elapsed() < RELIST / 2,
        "it was found by listing"
    );
}

#[test]
fn a_file_that_is_being_written_is_waited_for_and_a_broken_one_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = WatchedFolder::new(dir.path(), &|| ()).unwrap();
    save(dir.path(), "whole.png", 9);
    let bytes = fs::read(dir.path().join("whole.png")).unwrap();
    fs::remove_file(dir.path().join("whole.png")).unwrap();
    let (path, rest) = (dir.path().join("slow.png"), bytes.clone());
    fs::write(&path, &bytes[..20]).unwrap();
    let writer = thread::spawn(move || {
        thread::sleep(3 * POLL);
        fs::write(path, rest).unwrap();
    });
    assert_eq!(picture(&mut folder), (9, "slow.png".into()));
    writer.join().unwrap();
    fs::write(dir.path().join("broken.png"), &bytes[..20]).unwrap();
    let Arrival::Unusable(error) = folder.next(&|| false).unwrap() else {
        panic!("a broken file is trouble")
    };
    assert!(error.to_string().contains("broken.png"), "{error}");
}

/// All that waited were looked at for each: twenty thousand took ten times as long as two hundred.
#[test]
fn many_that_come_at_once_come_in_their_order_whatever_happens_to_others_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = WatchedFolder::new(dir.path(), &|| ()).unwrap();
    let name = |shade: u8| format!("{shade:03}.png");
    for shade in 1..=40 {
        save(dir.path(), &name(shade), shade);
    }
    assert_eq!(picture(&mut folder), (1, name(1)));
    let waiting = folder.ready.len();
    assert_eq!(picture(&mut folder), (2, name(2)));
    assert!(
        waiting == 0 || folder.ready.len() == waiting - 1,
        "all were looked at"
    );
    fs::remove_file(dir.path().join(name(20))).unwrap();
    save(dir.path(), &name(30), 99);
    save(dir.path(), "new.png", 77);
    let found: Vec<u8> = (0..38).map(|_| picture(&mut folder).0).collect();
    assert!(matches!(folder.next(&|| true).unwrap(), Arrival::Stopped));
    let expected: Vec<u8> = (3..=40).filter(|shade| ![20, 30].contains(shade)).collect();
    assert_eq!(found[..36], expected);
    // Both were written after all others.
    let mut late = [found[36], found[37]];
    late.sort_unstable();
    assert_eq!(late, [77, 99]);
}

#[test]
fn files_of_another_time_arrive_like_all_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = WatchedFolder::new(dir.path(), &|| ()).unwrap();
    let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let times = [SystemTime::UNIX_EPOCH, SystemTime::now() + century];
    for (shade, time) in (1..).zip(times) {
        let name = format!("{shade}.png");
        save(dir.path(), &name, shade);
        let file = fs::File::options()
            .write(true)
            .open(dir.path().join(&name))
            .unwrap();
        file.set_modified(time).unwrap();
        assert_eq!(picture(&mut folder), (shade, name));
    }
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let message = WatchedFolder::new(Path::new("no/such/folder"), &|| ())
        .err()
        .unwrap()
        .to_string();
    assert!(message.contains("no/such/folder"), "{message}");
}

#[test]
fn a_folder_that_another_one_replaces_is_watched_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shots");
    fs::create_dir(&path).unwrap();
    let mut folder = WatchedFolder::new(&path, &|| ()).unwrap();
    fs::rename(&path, dir.path().join("away")).unwrap();
    fs::create_dir(&path).unwrap();
    save(&path, "new.png", 5);
    assert_eq!(picture(&mut folder), (5, "new.png".into()));
    save(&path, "newer.png", 6);
    let started = Instant::now();
    assert_eq!(picture(&mut folder), (6, "newer.png".into()));
    assert!(started.elapsed() < RELIST / 2);
    fs::remove_dir_all(&path).unwrap();
    assert!(folder.next(&|| false).is_err());
}

/// 50,000 old files took a quarter of a core for ever.
#[test]
fn many_old_files_are_not_listed_all_the_time() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..3000 {
        fs::File::create(dir.path().join(format!("{number}.jpg"))).unwrap();
    }
    for told in [true, false] {
        let changes = Changes::of(dir.path()).filter(|_| told);
        let mut folder = WatchedFolder::with_changes(dir.path(), changes, &|| ()).unwrap();
        assert_eq!(folder.left_alone() % 3000, usize::from(!told));
        let started = Instant::now();
        folder.list(&|| ()).unwrap();
        let took = started.elapsed();
        let pause = folder.next_listing.saturating_duration_since(started);
        let least = if told { RELIST } else { POLL };
        let most = took * (SHARE + 1) + least;
        println!("told {told}: listed in {took:?}, again after {pause:?}");
        assert!((least..=most).contains(&pause), "{pause:?} after {took:?}");
        if told {
            // It comes at once all the same.
            save(dir.path(), "new.png", 7);
            let started = Instant::now();
            assert_eq!(picture(&mut folder), (7, "new.png".into()));
            assert!(started.elapsed() < RELIST / 3);
        }
    }
}

/// Of pictures that came together all but the first waited for half a minute, or for ever.
#[test]
fn pictures_that_come_while_another_is_ready_are_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = WatchedFolder::new(dir.path(), &|| ()).unwrap();
    let started = Instant::now();
    save(dir.path(), "1.png", 1);
    thread::sleep(2 * POLL);
    assert!(matches!(folder.next(&|| true).unwrap(), Arrival::Stopped));
    for shade in 2..6 {
        save(dir.path(), &format!("{shade}.png"), shade);
    }
    thread::sleep(2 * POLL);
    for shade in 1..6 {
        assert_eq!(picture(&mut folder), (shade, format!("{shade}.png")));
    }
    assert!(started.elapsed() < RELIST / 2);
}

/// Cameras and NAS that put each day's pictures into a folder of its own were never seen.
#[test]
fn folders_of_each_day_are_watched_too_and_those_of_the_system_are_not() {
    for told in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("2026-11-25/08")).unwrap();
        fs::create_dir_all(at("@eaDir")).unwrap();
        save(&at("2026-11-25/08"), "old.png", 1);
        let changes = Changes::of(dir.path()).filter(|_| told);
        let mut folder = WatchedFolder::with_changes(dir.path(), changes, &|| ()).unwrap();
        assert_eq!(folder.left_alone(), 1);
        save(&at("2026-11-25/08"), "new.png", 2);
        assert_eq!(picture(&mut folder), (2, "new.png".into()));
        // A folder of a new day, with a picture in it before anybody could look.
        let started = Instant::now();
        fs::create_dir_all(at("2026-11-26/00/front")).unwrap();
        save(&at("2026-11-26/00/front"), "first.png", 3);
        assert_eq!(picture(&mut folder), (3, "first.png".into()));
        save(&at("2026-11-26/00/front"), "second.png", 4);
        assert_eq!(picture(&mut folder), (4, "second.png".into()));
        // One that comes with its pictures from elsewhere.
        let other = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
        fs::create_dir(other.path().join("27")).unwrap();
        save(&other.path().join("27"), "moved.png", 5);
        fs::rename(other.path().join("27"), at("2026-11-27")).unwrap();
        assert_eq!(picture(&mut folder), (5, "moved.png".into()));
        // One that is removed and made again, as at the end of a card.
        fs::remove_dir_all(at("2026-11-27")).unwrap();
        thread::sleep(2 * POLL);
        assert!(matches!(folder.next(&|| true).unwrap(), Arrival::Stopped));
        fs::create_dir(at("2026-11-27")).unwrap();
        save(&at("2026-11-27"), "again.png", 6);
        assert_eq!(picture(&mut folder), (6, "again.png".into()));
        save(&at("2026-11-27"), "later.png", 7);
        assert_eq!(picture(&mut folder), (7, "later.png".into()));
        assert!(started.elapsed() < RELIST / 2, "the system tells of all");
        save(&at("@eaDir"), "thumb.png", 8);
        fs::create_dir(at(".trash")).unwrap();
        save(&at(".trash"), "thrown.png", 9);
        save(dir.path(), "last.png", 10);
        assert_eq!(picture(&mut folder), (10, "last.png".into()));
    }
}
