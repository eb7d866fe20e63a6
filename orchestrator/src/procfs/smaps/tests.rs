//! Areas with odd paths, blocks of different shapes, and our own.

use super::*;

/// Returns a block as the kernel writes it below a header.
fn block(rss: u64, flags: &str, extra: &str) -> String {
    format!(
        "Size:                  8 kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\nRss:            {rss:8} kB\n\
         Pss:                   8 kB\nAnonymous:             4 kB\nSwap:                 12 kB\nShared_Hugetlb:        0 kB\n\
         Private_Hugetlb:    2048 kB\n{extra}VmFlags: {flags} \n"
    )
}

fn smaps(areas: &[(&[u8], String)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (header, block) in areas {
        text.extend_from_slice(header);
        text.push(b'\n');
        text.extend_from_slice(block.as_bytes());
    }
    text
}

#[test]
fn headers_and_blocks_are_read() {
    let text = smaps(&[
        (
            b"00400000-00402000 r-xp 00001000 fe:10 247282                     /usr/bin/head",
            block(8, "rd ex mr mw me", ""),
        ),
        (
            b"7f0000000000-7f0000002000 rw-s 00000000 00:01 3 ",
            block(0, "rd wr sh mr mw me ms gd lo lf gu zz", ""),
        ),
        (
            b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]",
            block(0, "ex", ""),
        ),
    ]);
    let vmas = parse(&text).expect("parses");
    assert_eq!(vmas.len(), 3);
    let first = &vmas[0];
    assert_eq!((first.start, first.end), (0x40_0000, 0x40_2000));
    assert_eq!((first.prot, first.shared), (5, false));
    assert_eq!((first.offset, first.dev), (0x1000, (0xfe, 0x10)));
    assert_eq!(first.inode, 247_282);
    assert_eq!(&*path(&text, first), b"/usr/bin/head");
    assert_eq!(first.sizes.rss, 8192);
    assert_eq!((first.sizes.anonymous, first.sizes.swap), (4096, 12288));
    assert_eq!(
        (first.sizes.kernel_page, first.sizes.hugetlb),
        (4096, 2 << 20)
    );
    assert!(vmas[1].shared && path(&text, &vmas[1]).is_empty());
    let wanted = VmFlags::GROWSDOWN
        | VmFlags::LOCKED
        | VmFlags::LOCKONFAULT
        | VmFlags::MAYBE_GUARD
        | VmFlags::UNKNOWN;
    assert!(vmas[1].vm_flags.contains(wanted));
    assert_eq!(&*path(&text, &vmas[2]), b"[vsyscall]");
    assert_eq!(vmas[2].start, 0xffff_ffff_ff60_0000);
}

#[test]
fn paths_keep_their_bytes() {
    let header = |path: &[u8]| {
        let mut line = b"1000-2000 r--p 00000000 fe:00 1 ".to_vec();
        line.extend_from_slice(b"                                         ");
        line.extend_from_slice(path);
        line
    };
    let names: [(&[u8], &[u8]); 4] = [
        (br"/a\012b c", b"/a\nb c"),
        (b"/x y  (deleted)", b"/x y  (deleted)"),
        (b"/\xff\xfe.so", b"/\xff\xfe.so"),
        (br"/back\slash\01", br"/back\slash\01"),
    ];
    for (raw, wanted) in names {
        let text = smaps(&[(&header(raw), block(1, "rd", ""))]);
        let vmas = parse(&text).expect("parses");
        assert_eq!(&*path(&text, &vmas[0]), wanted);
    }
}

#[test]
fn blocks_that_differ_are_read_too() {
    let header = b"1000-2000 rw-p 00000000 00:00 0 ".as_slice();
    let text = smaps(&[
        (header, block(1, "rd", "")),
        (header, block(123_456_789, "rd wr", "")),
        (header, block(2, "rd", "ProtectionKey:         7\n")),
        (header, block(3, "ex", "")),
    ]);
    let vmas = parse(&text).expect("parses");
    let rss: Vec<u64> = vmas.iter().map(|vma| vma.sizes.rss / 1024).collect();
    assert_eq!(rss, [1, 123_456_789, 2, 3]);
    assert_eq!(vmas[1].vm_flags, VmFlags::READ | VmFlags::WRITE);
    assert_eq!(vmas[3].vm_flags, VmFlags::EXEC);
    let keys: Vec<u32> = vmas.iter().map(|vma| vma.protection_key).collect();
    assert_eq!(keys, [0, 0, 7, 0]);
}

#[test]
fn a_cut_file_is_refused_with_its_line() {
    let header = b"1000-2000 rw-p 00000000 00:00 0 ".as_slice();
    let text = smaps(&[(header, block(1, "rd", "")), (header, block(1, "rd", ""))]);
    let cut = &text[..text.len() - 40];
    let error = parse(cut).expect_err("cut").to_string();
    assert!(
        error.starts_with("smaps, line 22: expected VmFlags"),
        "{error}"
    );
    let error = parse_maps(b"1000-2000 rw-p 0 0:0 0\n1000-2000 rw?p 0 0:0 0\n").expect_err("bad");
    assert!(
        error
            .to_string()
            .starts_with("maps, line 2: expected permissions")
    );
    for len in 0..text.len() {
        let _ = parse(&text[..len]);
        let _ = parse_maps(&text[..len.min(header.len())]);
    }
}

#[test]
fn our_own_maps_and_smaps_agree() {
    let local = 0u8;
    let areas = read(Pid::this()).expect("smaps");
    let address = std::ptr::from_ref(&local).addr() as u64;
    let stack = areas
        .vmas
        .iter()
        .find(|vma| (vma.start..vma.end).contains(&address));
    let stack = stack.expect("the stack of this thread");
    assert!(stack.sizes.rss > 0 && stack.vm_flags.contains(VmFlags::READ | VmFlags::WRITE));
    let maps = read_maps(Pid::this()).expect("maps");
    let vdso = |areas: &Areas| {
        let vdso = areas.vmas.iter().find(|vma| &*areas.path(vma) == b"[vdso]");
        vdso.map(|vma| (vma.start, vma.end, vma.prot))
    };
    assert!(vdso(&areas).is_some());
    assert_eq!(vdso(&areas), vdso(&maps));
    let known = areas
        .vmas
        .iter()
        .all(|vma| !vma.vm_flags.contains(VmFlags::UNKNOWN));
    assert!(known, "this kernel has a flag that the table lacks");
}

#[test]
fn parts_are_as_the_whole() {
    let header = |start: u64, path: &str| {
        format!(
            "{start:08x}-{:08x} r--p 00000000 fe:00 1              {path}",
            start + 4096
        )
    };
    let paths = ["/lib/a", "/lib/a", "", "/lib/b\\012VmFlags:", "[heap]", ""];
    let headers: Vec<String> = (0..60_u64)
        .map(|index| header(index << 12, paths[index as usize % paths.len()]))
        .collect();
    let areas: Vec<(&[u8], String)> = headers
        .iter()
        .map(|header| (header.as_bytes(), block(1, "rd mr", "")))
        .collect();
    let text = smaps(&areas);
    let whole = parse(&text).expect("parses");
    let mut parts = Parts::default();
    let (mut from, mut to) = (0, 0);
    while to < text.len() {
        to = text.len().min(to + 700);
        let end = match to == text.len() {
            true => to,
            false => from + whole_blocks(&text[from..to]),
        };
        parts.add(&text[from..end]).expect("parses");
        from = end;
    }
    assert_eq!(parts.areas.vmas.len(), whole.len());
    for (part, wanted) in parts.areas.vmas.iter().zip(&whole) {
        assert_eq!(part.start, wanted.start);
        assert_eq!(parts.areas.path(part), path(&text, wanted));
    }
}
