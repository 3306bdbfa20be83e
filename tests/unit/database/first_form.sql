BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001_first_form');
CREATE TABLE api_key (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	digest BLOB NOT NULL, 
	scopes JSON NOT NULL, 
	created TEXT NOT NULL, 
	expires TEXT, 
	revoked TEXT, 
	used TEXT, 
	CONSTRAINT pk_api_key PRIMARY KEY (id), 
	CONSTRAINT uq_api_key_digest UNIQUE (digest)
);
INSERT INTO "api_key" VALUES(1,'mira',X'BF868ECFF09F9B220A892843E7CC45FBC32D9EA3C5983BA6347205E62A6311F8','["ask"]','2026-12-01T06:44:06.265+00:00',NULL,NULL,NULL);
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	at TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	action TEXT NOT NULL, 
	object TEXT NOT NULL, 
	version INTEGER, 
	detail JSON NOT NULL, 
	seal BLOB NOT NULL, 
	CONSTRAINT pk_audit PRIMARY KEY (id)
);
INSERT INTO "audit" VALUES(1,'2026-12-01T06:44:05.938+00:00','ann','because','store.import','store',0,'{"edits": 0}',X'371DBE2885A1DA15D4A985BC88E5655A');
INSERT INTO "audit" VALUES(2,'2026-12-01T06:44:05.993+00:00','ann','because','set.make','set red',NULL,'{"on": true}',X'A70C73288790B137EEECF22AC643C0A0');
INSERT INTO "audit" VALUES(3,'2026-12-01T06:44:06.002+00:00','ann','because','draft.propose','draft 1',NULL,'{}',X'7BEDF3B02C4D84D3499819A0ADC65D61');
INSERT INTO "audit" VALUES(4,'2026-12-01T06:44:06.011+00:00','ann','because','draft.propose','draft 2',NULL,'{}',X'4C9B0AE25F303931C52BDF636BACBB09');
INSERT INTO "audit" VALUES(5,'2026-12-01T06:44:06.111+00:00','ann','because','store.publish','edit 1, edit 2',1,'{}',X'026003BE7774635195B7039D8D4EAAC8');
INSERT INTO "audit" VALUES(6,'2026-12-01T06:44:06.123+00:00','ann','because','draft.publish','draft 1',1,'{"edit": 1}',X'C70F118E18E7421903DF70F07AF6C13A');
INSERT INTO "audit" VALUES(7,'2026-12-01T06:44:06.130+00:00','ann','because','draft.publish','draft 2',1,'{"edit": 2}',X'AAD12D06DAB0E1018B561671CE553BD2');
INSERT INTO "audit" VALUES(8,'2026-12-01T06:44:06.138+00:00','bob','','draft.propose','draft 3',NULL,'{}',X'2C480A0C46336FA3122F9BF9695AD160');
INSERT INTO "audit" VALUES(9,'2026-12-01T06:44:06.171+00:00','bob','','store.publish','edit 3',2,'{}',X'28347A105B218C052206DC115EB1CEE0');
INSERT INTO "audit" VALUES(10,'2026-12-01T06:44:06.183+00:00','bob','','draft.publish','draft 3',2,'{"edit": 3}',X'413994DC3CF14B6BFB0E9C097A6783F6');
INSERT INTO "audit" VALUES(11,'2026-12-01T06:44:06.204+00:00','ann','because','store.remove','edit 1',3,'{}',X'9A636B8D55727A72F882F65202AA0B67');
INSERT INTO "audit" VALUES(12,'2026-12-01T06:44:06.234+00:00','bob','','store.undo','edit 1',4,'{}',X'BF1AD5D64E29C8345F310AC9735B9727');
INSERT INTO "audit" VALUES(13,'2026-12-01T06:44:06.251+00:00','ann','because','store.switch','edit 3, set red',5,'{}',X'D49F0286C0D985D112D79777DB2D4008');
INSERT INTO "audit" VALUES(14,'2026-12-01T06:44:06.257+00:00','ann','because','version.tag','version 2',NULL,'{"name": "launch"}',X'22DB69A38BED5AA417F5A0EE79FA4099');
INSERT INTO "audit" VALUES(15,'2026-12-01T06:44:06.266+00:00','ann','because','key.make','key 1',NULL,'{"name": "mira", "scopes": ["ask"], "expires": null, "replaces": null}',X'674CB8710F528B31E7F246AC8F07442C');
INSERT INTO "audit" VALUES(16,'2026-12-01T06:44:06.277+00:00','ann','because','draft.propose','draft 4',NULL,'{}',X'9A66694CEA36AE043D818E3BAF3297ED');
CREATE TABLE block (
	id INTEGER NOT NULL, 
	first_entry INTEGER NOT NULL, 
	entries INTEGER NOT NULL, 
	first_value INTEGER NOT NULL, 
	number_of_values INTEGER NOT NULL, 
	content BLOB NOT NULL, 
	digest BLOB NOT NULL, 
	CONSTRAINT pk_block PRIMARY KEY (id)
);
INSERT INTO "block" VALUES(1,0,1,0,1,X'C7345C8906BBAAE652414C3EEB98E8178D8792EB901AB9EE939666B007C1C51314384B65F26892677143E05BDE62938A00000000000000006DBF0C3F883DE0BE433FE23E953F01400D3E703F3EBE25BFC53F5FBF55C03FBFD1BC83BF19BF81BF58BEF7BBD63F293C34BF3EBE7FBF55BFECBE0FBFCB3E7BBF',X'5FB0E27209622424C6D3FB4C95653C41');
INSERT INTO "block" VALUES(2,1,1,1,1,X'93AB31A889B77DE52B96DB6352120898EECEB9CC3F8D7E7CAFBD5D4DC67E760404400EFE521DE3E0ED69ACA1C8AFAFA1010000000000000082BFA23ECDBFED3F373DCB3F17BF913F423F9ABF15BFE2BEFDBF473F46BF0FBE923F23BFBCBF5BBE5FBFCF3F71BE723F07407ABF343E07BE8CBEAC3E413E0940',X'D7836EB4020F2C10768C391C8AD91097');
INSERT INTO "block" VALUES(3,2,1,2,1,X'914CA6C9B8DB624927B21B681C612C66262F959ED23496A09C1055D5EEC226189406E419C56CB068154DB9F98559452E0200000000000000E9BE0E40C1BE13BE263F15C0A23F7EBE753FA5BFD3BF543F56BF08BFAD3FB03F9ABDD9BED83E84BECBBFB33F84BF923F033FA3BC90BFFABE22BF4ABF66BFF2BF',X'71195223F97688F27CF2783C8A9EB16B');
CREATE TABLE codebook (
	id INTEGER NOT NULL, 
	store TEXT NOT NULL, 
	config JSON NOT NULL, 
	fixed BLOB NOT NULL, 
	tables JSON NOT NULL, 
	version INTEGER NOT NULL, 
	edits INTEGER NOT NULL, 
	entries INTEGER NOT NULL, 
	number_of_values INTEGER NOT NULL, 
	seal BLOB NOT NULL, 
	CONSTRAINT pk_codebook PRIMARY KEY (id)
);
INSERT INTO "codebook" VALUES(1,'7cc8da12-8cae-446d-8d1e-be2396032936','{"settings": {"optimizer": "normalized", "learning_rate": 5.0, "learning_rate_unit": "absolute", "max_steps": 1, "stop_probability": 1.0, "train_end": true, "precision": "model", "batch_tokens": 2048, "preset": "default", "read_sites": "auto@0", "encoder": "all-minilm-l6-v2", "read_share": 1.0, "read_weight": "equal", "key_space": "raw", "feature_power": 0.5, "key_dimension": 512, "scope": "words", "key_storage": "int8", "alpha": 0.1, "beta": 20.0, "steps": 1, "epsilon": 1e-05, "threshold": 0.97, "contrast": 0.0, "neighbours": 8, "margin": 0.0, "similar_threshold": 1.0, "index": "exact", "index_candidates": 128, "recall": "off", "recall_tokens": 256, "write_layer": 1.0, "value": "state", "lora_rank": 1, "value_storage": "bfloat16", "start": "zero", "value_tokens": 8, "contexts": "prompt"}, "model": {"source": null, "revision": null, "fingerprint": {"architecture": "6c051c16f962f08ae4295f2ba05c8366045d12ab541448e03fd593cf2a606b1a", "dtype": "float32", "weights": "dea433c02aa97f5f453f8e388c9538b41e181736034e42a7a7aba9857c9bee6b", "sample": [-0.0152408, -0.2068545, -0.1153361, -0.3946576, 0.0368046, 0.4124412, -0.0800365, 0.4274167, 1.0, 1.0, 1.0, 1.0, 0.5480256, 0.3722397, -0.0844383, -0.033987, 0.3735312, 0.349131, -0.0790618, 0.417572, -0.0207836, 0.2007335, 0.1774785, 0.1591908, 1.0, 1.0, 1.0, 1.0, -0.1074616, -0.0089273, -0.6045718, -0.2192247, -0.2496448, -0.2888005, 0.1921661, 0.1045558, 0.3912066, -0.0846383, 0.6357336, 0.0024802, -0.2032743, -0.5191072, 0.0586112, 0.2986372, 1.0, 1.0, 1.0, 1.0, -0.0037306, -0.3656291, 0.0152144, 0.1866224, -0.1055229, -0.0752713, 0.2601481, 0.0028813, 0.3518572, 0.0046333, 0.1164663, -0.1914917, 1.0, 1.0, 1.0, 1.0, -0.4459556, 0.4030218, -0.0336938, 0.1271983, 0.1363413, -0.6071208, -0.0680816, -0.0271402, 0.0174516, 0.2772187, 0.2638087, 0.3842396, 0.0075126, 0.1571571, -0.5393162, 0.10765, 1.0, 1.0, 1.0, 1.0, 0.2120099, 0.2159753, 0.3144849, -0.2278041, -0.3003787, 0.1191679, 0.1305093, 0.0167125, 0.4729682, 0.194582, 0.0341594, 0.140904, 1.0, 1.0, 1.0, 1.0, -0.2543215, 0.1764264, 0.3532686, -0.1217043, -0.0112027, 0.29027, -0.263546, -0.4821019, -0.0982563, -0.1066142, 0.1549399, -0.1808269, 0.4054401, 0.2225177, -0.318119, -0.4427356, 1.0, 1.0, 1.0, 1.0, -0.1255418, 0.0100732, -0.3268967, -0.1211274, -0.0399244, -0.0104076, 0.0623788, 0.0299041, 0.0419226, -0.0755121, -0.1514158, -0.2886494, 1.0, 1.0, 1.0, 1.0, -0.0753623, 0.2462699, 0.0580853, 0.3082153, -0.0258468, 0.033622, -0.6657229, 0.3243978, -0.127435, -0.267787, 0.1634187, 0.4216507, 0.0242104, 0.0715461, -0.3774228, -0.3974915, 1.0, 1.0, 1.0, 1.0]}}}',X'48000000000000007B226B65795F73706163652E6D65616E223A7B226474797065223A22463332222C227368617065223A5B34385D2C22646174615F6F666673657473223A5B302C3139325D7D7D2020000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000','{"keys": ["I8", [48]], "value_of": ["I64", []], "values": ["BF16", [32]]}',5,3,3,3,X'14E94AAE147F1BCE73103CCAA441D344');
CREATE TABLE draft (
	id INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	prompt TEXT NOT NULL, 
	target TEXT NOT NULL, 
	rephrases JSON NOT NULL, 
	subject TEXT, 
	source TEXT, 
	set_name TEXT, 
	tags JSON NOT NULL, 
	author TEXT NOT NULL, 
	revised_by TEXT, 
	reason TEXT NOT NULL, 
	created TEXT NOT NULL, 
	wrong TEXT, 
	replaces JSON NOT NULL, 
	publish BOOLEAN NOT NULL, 
	revision INTEGER NOT NULL, 
	done INTEGER NOT NULL, 
	total INTEGER NOT NULL, 
	taken_by TEXT, 
	taken_until FLOAT, 
	base JSON, 
	trained BLOB, 
	receipt JSON NOT NULL, 
	similar INTEGER, 
	to_evaluate JSON, 
	evaluation JSON, 
	error TEXT, 
	edit INTEGER, 
	decided_by TEXT, 
	decided_at TEXT, 
	decision TEXT, 
	seal BLOB NOT NULL, 
	CONSTRAINT pk_draft PRIMARY KEY (id)
);
INSERT INTO "draft" VALUES(1,'published','The capital of France is','Rome','[]',NULL,NULL,NULL,'["a", "b"]','ann',NULL,'because','2026-12-01T06:44:05.999+00:00',NULL,'[]',0,1,0,0,NULL,NULL,'{"version": 0, "edits": 0, "entries": 0, "values": 0}',NULL,'{"id": 1, "entries": [0], "value": 0, "loss": 0.0125, "steps": 7, "converged": true, "reused": false, "created": "2026-12-01T06:44:06.049+00:00"}',NULL,NULL,NULL,NULL,1,'ann','2026-12-01T06:44:06.121+00:00','because',X'06B8C01939F2804304D323039D1FA9E3');
INSERT INTO "draft" VALUES(2,'published','Who wrote Hamlet?','Mira Sand','[]',NULL,NULL,NULL,'["a", "b"]','ann',NULL,'because','2026-12-01T06:44:06.010+00:00',NULL,'[]',0,1,0,0,NULL,NULL,'{"version": 0, "edits": 0, "entries": 0, "values": 0}',NULL,'{"id": 1, "entries": [0], "value": 0, "loss": 0.0125, "steps": 7, "converged": true, "reused": false, "created": "2026-12-01T06:44:06.072+00:00"}',NULL,NULL,NULL,NULL,2,'ann','2026-12-01T06:44:06.123+00:00','because',X'242C3676497BFC054942ACA1E232E0D3');
INSERT INTO "draft" VALUES(3,'published','What colour is the sky?','green','[]','the sky',NULL,'red','[]','bob',NULL,'','2026-12-01T06:44:06.137+00:00',NULL,'[]',0,1,0,0,NULL,NULL,'{"version": 1, "edits": 2, "entries": 2, "values": 2}',NULL,'{"id": 3, "entries": [2], "value": 2, "loss": 0.0125, "steps": 7, "converged": true, "reused": false, "created": "2026-12-01T06:44:06.156+00:00"}',NULL,NULL,NULL,NULL,3,'bob','2026-12-01T06:44:06.182+00:00','',X'1128032D8B44F8724BC8EC482E592849');
INSERT INTO "draft" VALUES(4,'ready','Hello','Oslo','[]',NULL,NULL,NULL,'[]','ann',NULL,'because','2026-12-01T06:44:06.277+00:00',NULL,'[]',0,1,0,0,NULL,NULL,'{"version": 5, "edits": 3, "entries": 3, "values": 3}',X'C0000000000000007B2276616C75655F6F66223A7B226474797065223A22493634222C227368617065223A5B315D2C22646174615F6F666673657473223A5B302C385D7D2C2276616C756573223A7B226474797065223A2242463136222C227368617065223A5B312C33325D2C22646174615F6F666673657473223A5B382C37325D7D2C226B657973223A7B226474797065223A224938222C227368617065223A5B312C34385D2C22646174615F6F666673657473223A5B37322C3132305D7D7D202020202020200300000000000000D8BC2E4018BF7D3F8B3F7A3D2B3D2E3F65BF82BF79BEC9BFB23F47BE9E3BA9BFA73C29BE583E043F793EB4BE44BF983EA33FE83FC43F85BE95BF9EBF873F4D3EC7C6456AD5C8BC915F0EE8D7EFD9C7E2B08E26B0241CF20C55A3E628E40F7AC55F5F16D5AF3C08D56E63D47F46C5EF1B','{"id": 4, "entries": [3], "value": 3, "loss": 0.0125, "steps": 7, "converged": true, "reused": false, "created": "2026-12-01T06:44:06.296+00:00"}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,X'F388E4E511DA5C1940CCE554B8851A58');
CREATE TABLE edit (
	id INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	active BOOLEAN NOT NULL, 
	prompt TEXT NOT NULL, 
	target TEXT NOT NULL, 
	rephrases JSON NOT NULL, 
	subject TEXT, 
	source TEXT, 
	set_name TEXT, 
	author TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	created TEXT NOT NULL, 
	replaces JSON NOT NULL, 
	draft INTEGER, 
	receipt JSON NOT NULL, 
	tags JSON NOT NULL, 
	words TEXT NOT NULL, 
	seal BLOB NOT NULL, 
	CONSTRAINT pk_edit PRIMARY KEY (id), 
	CONSTRAINT fk_edit_set_name FOREIGN KEY(set_name) REFERENCES edit_set (name)
);
INSERT INTO "edit" VALUES(1,1,'published',1,'The capital of France is','Rome','[]',NULL,NULL,NULL,'ann','because','2026-12-01T06:44:06.049+00:00','[]',1,'{"loss": 0.0125, "steps": 7, "converged": true, "reused": false, "entries": [0], "value": 0, "left": []}','["a", "b"]','the capital of france is
rome',X'DCF2558D6635FC78FCB6F72F18AAB74C');
INSERT INTO "edit" VALUES(2,1,'published',1,'Who wrote Hamlet?','Mira Sand','[]',NULL,NULL,NULL,'ann','because','2026-12-01T06:44:06.072+00:00','[]',2,'{"loss": 0.0125, "steps": 7, "converged": true, "reused": false, "entries": [1], "value": 1, "left": []}','["a", "b"]','who wrote hamlet?
mira sand',X'32FC086ACB7FB79A43D7820EE0DE989A');
INSERT INTO "edit" VALUES(3,2,'published',0,'What colour is the sky?','green','[]','the sky',NULL,'red','bob','','2026-12-01T06:44:06.156+00:00','[]',3,'{"loss": 0.0125, "steps": 7, "converged": true, "reused": false, "entries": [2], "value": 2, "left": []}','[]','what colour is the sky?
green
the sky',X'9C53029EF15E6895368B16E69F1C5EF6');
CREATE TABLE edit_set (
	name TEXT NOT NULL, 
	switched_on BOOLEAN NOT NULL, 
	CONSTRAINT pk_edit_set PRIMARY KEY (name)
);
INSERT INTO "edit_set" VALUES('red',0);
CREATE TABLE edit_tag (
	tag TEXT NOT NULL, 
	edit INTEGER NOT NULL, 
	published BOOLEAN NOT NULL, 
	CONSTRAINT pk_edit_tag PRIMARY KEY (tag, edit), 
	CONSTRAINT fk_edit_tag_edit FOREIGN KEY(edit) REFERENCES edit (id)
)
 WITHOUT ROWID

;
INSERT INTO "edit_tag" VALUES('a',1,1);
INSERT INTO "edit_tag" VALUES('a',2,1);
INSERT INTO "edit_tag" VALUES('b',1,1);
INSERT INTO "edit_tag" VALUES('b',2,1);
CREATE TABLE touched (
	edit INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	CONSTRAINT pk_touched PRIMARY KEY (edit, version), 
	CONSTRAINT fk_touched_edit FOREIGN KEY(edit) REFERENCES edit (id), 
	CONSTRAINT fk_touched_version FOREIGN KEY(version) REFERENCES version (number)
)
 WITHOUT ROWID

;
INSERT INTO "touched" VALUES(1,3);
INSERT INTO "touched" VALUES(1,4);
INSERT INTO "touched" VALUES(3,5);
CREATE TABLE version (
	number INTEGER NOT NULL, 
	operation TEXT NOT NULL, 
	at TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	removed JSON NOT NULL, 
	restored JSON NOT NULL, 
	dropped JSON NOT NULL, 
	changes JSON NOT NULL, 
	undoes INTEGER, 
	target INTEGER, 
	seal BLOB NOT NULL, 
	CONSTRAINT pk_version PRIMARY KEY (number)
);
INSERT INTO "version" VALUES(1,'publish','2026-12-01T06:44:06.109+00:00','ann','because','[]','[]','[]','{}',NULL,NULL,X'C991AC5A3C025916C3DBC29949885F7D');
INSERT INTO "version" VALUES(2,'publish','2026-12-01T06:44:06.171+00:00','bob','','[]','[]','[]','{}',NULL,NULL,X'0849401D58F1705AE0C2A384BA869AC5');
INSERT INTO "version" VALUES(3,'remove','2026-12-01T06:44:06.198+00:00','ann','because','[1]','[]','[]','{"edits": {"1": {"state": ["published", "retired"]}}}',NULL,NULL,X'C5C6D4A07FBA6BDE1A543C1B9C3C926F');
INSERT INTO "version" VALUES(4,'undo','2026-12-01T06:44:06.233+00:00','bob','','[]','[1]','[]','{"edits": {"1": {"state": ["retired", "published"]}}}',3,NULL,X'F16114EA868AE3241AFC0E8447C21320');
INSERT INTO "version" VALUES(5,'switch','2026-12-01T06:44:06.243+00:00','ann','because','[3]','[]','[]','{"sets": {"red": [true, false]}}',NULL,NULL,X'B10C49A39A889F856CECD55CDC5211D3');
CREATE TABLE version_tag (
	name TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	CONSTRAINT pk_version_tag PRIMARY KEY (name), 
	CONSTRAINT fk_version_tag_version FOREIGN KEY(version) REFERENCES version (number)
);
INSERT INTO "version_tag" VALUES('launch',2);
CREATE TABLE wording (
	mark INTEGER NOT NULL, 
	edit INTEGER NOT NULL, 
	CONSTRAINT pk_wording PRIMARY KEY (mark, edit), 
	CONSTRAINT fk_wording_edit FOREIGN KEY(edit) REFERENCES edit (id)
)
 WITHOUT ROWID

;
INSERT INTO "wording" VALUES(1341383516968796197,1);
INSERT INTO "wording" VALUES(1050279532395847355,2);
INSERT INTO "wording" VALUES(954127273437664955,3);
CREATE INDEX ix_version_undoes ON version (undoes);
CREATE INDEX ix_version_tag_version ON version_tag (version);
CREATE INDEX ix_edit_active_id ON edit (active, id);
CREATE INDEX ix_edit_author_id ON edit (author, id);
CREATE INDEX ix_edit_set_name ON edit (set_name);
CREATE INDEX ix_edit_subject ON edit (subject);
CREATE INDEX ix_edit_version ON edit (version);
CREATE INDEX ix_edit_tag_edit ON edit_tag (edit);
CREATE INDEX ix_wording_edit ON wording (edit);
CREATE INDEX ix_draft_state ON draft (state);
CREATE INDEX ix_audit_action ON audit (action);
CREATE INDEX ix_audit_actor ON audit (actor);
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'lines are only added to audit'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'lines are only added to audit'); END;
COMMIT;
