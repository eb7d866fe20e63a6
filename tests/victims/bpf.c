/*
 * BPF maps: an array, and a hash table that is frozen.
 */
#include "victim.h"
#include <linux/bpf.h>

static int array, table, numa;

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof *attr);
}

static int made(int type, int key, int value, int entries, int flags, const char *name)
{
	union bpf_attr attr = {.map_type = type, .key_size = key, .value_size = value, .max_entries = entries, .map_flags = flags};
	strcpy(attr.map_name, name);
	return bpf(BPF_MAP_CREATE, &attr);
}

static long set(int map, const void *key, const void *value)
{
	union bpf_attr attr = {.map_fd = map, .key = (uintptr_t)key, .value = (uintptr_t)value};
	return bpf(BPF_MAP_UPDATE_ELEM, &attr);
}

static long get(int map, const void *key, void *value)
{
	union bpf_attr attr = {.map_fd = map, .key = (uintptr_t)key, .value = (uintptr_t)value};
	return bpf(BPF_MAP_LOOKUP_ELEM, &attr);
}

static void check_info(int map, int type, int entries, int flags, const char *name)
{
	struct bpf_map_info info = {0};
	union bpf_attr attr = {.info = {.bpf_fd = map, .info_len = sizeof info, .info = (uintptr_t)&info}};
	CHECK(bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) == 0, "what a map is: %s", strerror(errno));
	CHECK((int)info.type == type && (int)info.max_entries == entries && (int)info.map_flags == flags && !strcmp(info.name, name),
	      "map %s: type %d, %d entries, flags %x", info.name, info.type, info.max_entries, info.map_flags);
}

/* A machine with one node: of several, the kernel does not tell which a map is of. */
static int has_one_node(void)
{
	char line[20] = "";
	FILE *online = fopen("/sys/devices/system/node/online", "r");
	if (!online)
		return 0;
	if (!fgets(line, sizeof line, online))
		line[0] = 0;
	fclose(online);
	return !strcmp(line, "0\n");
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	numa = has_one_node() ? BPF_F_NUMA_NODE : 0;
	array = made(BPF_MAP_TYPE_ARRAY, 4, 12, 10, numa, "numbers");
	if (array < 0) {
		/* A kernel without, or a machine that does not let us. */
		victim_ready();
		victim_wait();
		return victim_pass();
	}
	table = MUST(made(BPF_MAP_TYPE_HASH, 6, 3, 100, BPF_F_NO_PREALLOC, "words"));
	for (int key = 0; key < 10; key++) {
		int value[3] = {key, key * key, -key};
		MUST(set(array, &key, value));
	}
	for (int n = 0; n < 50; n++) {
		char key[6] = {n, 1, 2, 3, 4, n}, value[3] = {n, n + 1, n + 2};
		MUST(set(table, key, value));
	}
	union bpf_attr freeze = {.map_fd = table};
	MUST(bpf(BPF_MAP_FREEZE, &freeze));
	MUST(fcntl(array, F_SETFD, 0));
	victim_ready();
	victim_wait();
	check_info(array, BPF_MAP_TYPE_ARRAY, 10, numa, "numbers");
	check_info(table, BPF_MAP_TYPE_HASH, 100, BPF_F_NO_PREALLOC, "words");
	for (int key = 0; key < 10; key++) {
		int value[3] = {0};
		CHECK(get(array, &key, value) == 0 && value[0] == key && value[1] == key * key && value[2] == -key, "number %d", key);
	}
	for (int n = 0; n < 50; n++) {
		char key[6] = {n, 1, 2, 3, 4, n}, value[3] = {0};
		CHECK(get(table, key, value) == 0 && value[0] == n && value[2] == n + 2, "word %d", n);
	}
	char key[6] = {99}, value[3] = {0};
	CHECK(get(table, key, value) == -1 && errno == ENOENT, "a word too many");
	CHECK(set(table, key, value) == -1 && errno == EPERM, "the table is not frozen");
	CHECK(set(array, &(int){3}, &(int[3]){5}) == 0, "the array is frozen");
	CHECK(fcntl(array, F_GETFD) == 0 && fcntl(table, F_GETFD) == FD_CLOEXEC, "close on exec");
	return victim_pass();
}
