package bridge

import "telemetryhub/wire"

// reasonCode is an MQTT 5 reason code (section 2.4).
type reasonCode byte

const (
	codeNoSubscribers    reasonCode = 0x10
	codeUnspecified      reasonCode = 0x80
	codeMalformed        reasonCode = 0x81
	codeProtocol         reasonCode = 0x82
	codeImplementation   reasonCode = 0x83
	codeVersion          reasonCode = 0x84
	codeBadCredentials   reasonCode = 0x86
	codeNotAuthorized    reasonCode = 0x87
	codeUnavailable      reasonCode = 0x88
	codeBusy             reasonCode = 0x89
	codeBanned           reasonCode = 0x8A
	codeShuttingDown     reasonCode = 0x8B
	codeAuthMethod       reasonCode = 0x8C
	codeKeepAliveTimeout reasonCode = 0x8D
	codeTakenOver        reasonCode = 0x8E
	codeTopicFilter      reasonCode = 0x8F
	codeTopicName        reasonCode = 0x90
	codePacketIDInUse    reasonCode = 0x91
	codeTopicAlias       reasonCode = 0x94
	codePacketTooLarge   reasonCode = 0x95
	codeQuotaExceeded    reasonCode = 0x97
	codeAdministrative   reasonCode = 0x98
	codePayloadFormat    reasonCode = 0x99
	codeSharedSub        reasonCode = 0x9E
	codeRateExceeded     reasonCode = 0x9F // of connections
)

// connack311 turns a CONNACK's reason code into a return code of MQTT 3.1.1 (table 3.1).
func connack311(code reasonCode) byte {
	switch code {
	case codeVersion:
		return 1
	case codeUnspecified, 0x85: // client identifier not valid, which mochi calls unspecified when it is empty
		return 2
	case codeUnavailable, codeBusy, codeQuotaExceeded, codeRateExceeded:
		return 3
	case codeBadCredentials:
		return 4
	}
	return 5
}

// disconnectCode turns a close code of the hub's own connection into the reason of a DISCONNECT.
func disconnectCode(closeCode int) reasonCode {
	switch closeCode {
	case wire.CloseReplaced:
		return codeTakenOver
	case wire.CloseNoPong:
		return codeKeepAliveTimeout
	case wire.CloseRevoked:
		return codeNotAuthorized
	case wire.CloseFrozen:
		return codeBanned
	case wire.CloseGoingAway, wire.CloseRestart:
		return codeShuttingDown
	case wire.CloseOverloaded:
		return codeBusy
	case wire.ClosePolicy:
		return codeAdministrative
	}
	return codeUnspecified
}
