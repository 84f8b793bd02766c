// Package store keeps what a director must not forget in one directory (uvs run --state):
// the latest document, the changes made since, and the versions that were applied. To the
// package these are bytes with a revision.
//
// The directory holds text files of mode 0600:
//
//	snapshot     uvs snapshot 1 CHECKSUM REVISION, then the document in the following lines
//	journal      uvs journal 1 CHECKSUM REVISION, then a line CHECKSUM REVISION RECORD for each change
//	version-N    uvs version 1 CHECKSUM REVISION {"time":…,"author":…,"how":…}, then the document
//	.uvs-new     a file that is being written; a rename gives it its name
//
// The number 1 is the format. A checksum is xxHash64 in 16 hexadecimal digits, of all that
// follows the space after it: to the end of the line in the journal, to the end of the file
// in the others. The journal's first line names the revision that it continues, so a snapshot
// that was lost or is older is noticed.
//
// Whatever a method has acknowledged survives a crash and a loss of power between any two
// steps. A snapshot becomes durable before the journal is replaced by an empty one. Records
// that the snapshot contains are skipped by their revision.
package store
