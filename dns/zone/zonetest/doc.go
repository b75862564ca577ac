// Package zonetest reads what the zone's golden files say: objects, settings and
// questions. It is imported by tests only, those of every server that answers
// from a zone, and knows nothing of answers.
package zonetest
