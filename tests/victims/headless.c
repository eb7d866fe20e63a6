/* A process whose first thread has ended; another lives on. */
#include "victim.h"

static void *rest(void *none)
{
	victim_ready();
	victim_wait();
	_exit(victim_pass());
	return none;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	pthread_t thread;
	CHECK(!pthread_create(&thread, NULL, rest, NULL), "set-up: pthread_create");
	pthread_exit(NULL);
}
