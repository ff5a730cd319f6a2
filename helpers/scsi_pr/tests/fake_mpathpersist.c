/* A libmpathpersist.so.0 for tests: notes its calls in $FAKE_LOG, and answers by what the keys say. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct transportid { uint8_t format_code, protocol_id, name[256]; };
struct full { uint8_t key[8], flag, scope_type; uint16_t rtpi; struct transportid id; };
struct in_keys { uint32_t generation, length; uint8_t keys[8192]; };
struct in_reservation { uint32_t generation, length; uint8_t key[8]; uint32_t o1; uint8_t r, scope_type; uint16_t o2; };
struct in_capabilities { uint16_t length; uint8_t flags[2]; uint16_t types, r; };
struct in_full { uint32_t generation, count; uint8_t room[8192]; struct full *list[]; };
struct out {
	uint8_t key[8], sa_key[8]; uint32_t o1; uint8_t flags, r; uint16_t o2;
	uint8_t room[8192]; uint32_t count; struct transportid *list[];
};

int libmp_verbosity = 7;
static int initialised;

static void note(const char *text)
{
	FILE *file = fopen(getenv("FAKE_LOG"), "a");
	fprintf(file, "%s\n", text);
	fclose(file);
}

int libmpathpersist_init(void)
{
	initialised = 1;
	return 0;
}

int mpath_persistent_reserve_in(int fd, int action, void *result, int noisy, int verbose)
{
	char text[128];
	snprintf(text, sizeof text, "in %d init %d fd %d noisy %d verbose %d %d", action, initialised, fd > 2, noisy,
		 verbose, libmp_verbosity);
	note(text);
	struct in_keys *keys = result;
	struct in_reservation *reservation = result;
	struct in_capabilities *capabilities = result;
	struct in_full *full = result;
	switch (action) {
	case 0:
		keys->generation = 0x01020304;
		keys->length = 16;
		memcpy(keys->keys, "key1____key2____", 16);
		return 0;
	case 1:
		reservation->generation = 5;
		reservation->length = 16;
		memcpy(reservation->key, "key1____", 8);
		reservation->scope_type = 0x05;
		return 0;
	case 2:
		capabilities->length = 8;
		capabilities->flags[0] = 0x11;
		capabilities->flags[1] = 0x80;
		capabilities->types = 0xea01;
		return 0;
	}
	/* As the library does: descriptors from the beginning of the room, and pointers to them. */
	struct full *one = (struct full *)full->room;
	memcpy(one->key, "key1____", 8);
	one->flag = 1;
	one->scope_type = 5;
	one->rtpi = 2;
	one->id.protocol_id = 6;
	memcpy(one->id.name, "sasaddrs", 8);
	full->generation = 6;
	full->count = 1;
	full->list[0] = one;
	return 0;
}

int mpath_persistent_reserve_out(int fd, int action, int scope, unsigned type, void *parameters, int noisy, int verbose)
{
	struct out *out = parameters;
	char text[256];
	int at = snprintf(text, sizeof text, "out %d scope %d type %u key %.8s sa %.8s flags %d ids %u", action, scope, type,
			  out->key, out->sa_key, out->flags, out->count);
	for (unsigned i = 0; i < out->count; i++) {
		struct transportid *id = out->list[i];
		/* An iSCSI name has its length before it. */
		const char *name = (const char *)id->name + (id->protocol_id == 5 ? 2 : 0);
		at += snprintf(text + at, sizeof text - at, " %d/%d:%.8s", id->format_code, id->protocol_id, name);
	}
	note(text);
	if (!memcmp(out->key, "abort___", 8))
		abort();
	if (!memcmp(out->key, "sleep___", 8))
		sleep(2);
	/* "code" and a number is what to answer. */
	return !memcmp(out->key, "code", 4) ? atoi((const char *)out->key + 4) : 0;
}
