/*
 * Somebody else with System V shared memory: "key KEY" makes a segment with this key, "attach ID" attaches one. It
 * holds it until it is asked.
 */
#include "victim.h"
#include <sys/ipc.h>
#include <sys/shm.h>

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	if (argc < 4)
		FAIL("set-up: a kind and a number are wanted");
	long number = strtol(argv[3], NULL, 0);
	int id = -1;
	if (!strcmp(argv[2], "attach")) {
		if (shmat(number, NULL, 0) == (void *)-1)
			FAIL("set-up: shmat: %s", strerror(errno));
	} else {
		id = MUST(shmget(number, 4096, IPC_CREAT | IPC_EXCL | 0600));
		victim_say("segment %d", id);
	}
	victim_ready();
	victim_wait();
	if (id >= 0)
		MUST(shmctl(id, IPC_RMID, NULL));
	return victim_pass();
}
